"""The vendors: what is truly on their shelves, how they answer, and the feeds that they publish.

They are not the software under test and keep what they know; they go away and come back, stand
still, their connections are cut, their feeds fail and their clocks go wrong.
"""

import datetime
import email.utils
import http.server
import json
import random
import threading
import time

import pika

PRODUCTS = [f"p{n}" for n in range(12)]
SCARCE = PRODUCTS[:4]
VENDORS = ["a", "b", "c"]


class Vendor:
    """One vendor. It takes units off its shelf before it answers, and puts them back when it is told that they are not wanted."""

    def __init__(self, name, seed):
        self.name, self.lock, self.random = name, threading.Lock(), random.Random(f"{seed} vendor {name}")
        self.shelf = {p: self.random.randint(50, 150) if p in SCARCE else 100000 for p in PRODUCTS}
        self.given = dict(self.shelf)       # all that was ever put on it
        self.decided = {}                   # (order, attempt) -> its answer
        self.taken = {}                     # (order, attempt) -> units
        self.unwanted = set()
        self.shortages = []                 # (time, part, lines, shelf, taken) where it had not what was asked for

    def decide(self, part, lines):
        """Confirms or rejects, the same way every time it is asked."""
        with self.lock:
            if part not in self.decided:
                is_wanted = part not in self.unwanted
                is_there = all(self.shelf[p] >= q for p, q in lines.items())
                if is_wanted and not is_there:
                    self.shortages.append((datetime.datetime.now(datetime.timezone.utc), part, lines, dict(self.shelf), dict(self.taken)))
                if is_wanted and is_there and self.random.random() < 0.93:
                    self.decided[part] = "confirmed"
                    self.taken[part] = lines
                    for product, quantity in lines.items():
                        self.shelf[product] -= quantity
                else:
                    self.decided[part] = "rejected"
            return self.decided[part]

    def put_back(self, part):
        with self.lock:
            self.unwanted.add(part)
            for product, quantity in self.taken.pop(part, {}).items():
                self.shelf[product] += quantity

    def restock(self, product, quantity):
        with self.lock:
            self.shelf[product] += quantity
            self.given[product] += quantity

    def feed(self):
        with self.lock:
            return [{"id": p, "quantity": q, "price": 1 + VENDORS.index(self.name)} for p, q in self.shelf.items()]

    def sold_short(self, over):
        """Units that were promised to an order and were not there when it was asked for them; over: since when the database has done with a part.
        Not those of a part that was over by then, nor those that it had itself taken for such parts: it was told of them later than it was asked."""
        def is_over(part, at):
            return part in over and over[part] <= at
        return [(at, part, lines) for at, part, lines, shelf, taken in self.shortages if not is_over(part, at)
                and any(shelf[p] + sum(units.get(p, 0) for other, units in taken.items() if is_over(other, at)) < q for p, q in lines.items())]


class Feeds(http.server.ThreadingHTTPServer):
    """All vendors' feeds; may fail or hang, and its clock may be wrong."""

    daemon_threads = True

    def __init__(self, vendors):
        super().__init__(("127.0.0.1", 0), FeedHandler)
        self.vendors, self.fault, self.clock_off_s = vendors, None, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class FeedHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.fault == "gone":
            self.close_connection = True
            return
        # the time first: what is taken off the shelf after it is missing in the count, which harms nobody
        now, body = time.time(), json.dumps(self.server.vendors[self.path.strip("/")].feed()).encode()
        if self.server.fault == "hangs":
            time.sleep(20)
        self.send_response_only(500 if self.server.fault == "fails" else 200)
        self.send_header("Date", email.utils.formatdate(now + self.server.clock_off_s, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body[:len(body) // 2] if self.server.fault == "cut" else body)
        except ConnectionError:     # a bridge that was killed, or waited no longer
            self.close_connection = True

    def log_message(self, *_):
        pass


class Consumer(threading.Thread):
    """A thread with a connection to one of the brokers, which comes back."""

    def __init__(self, urls, seed):
        super().__init__(daemon=True)
        self.urls, self.random = list(urls), random.Random(seed)
        self.stopping, self.error = False, None
        self.cut, self.here, self.awake = threading.Event(), threading.Event(), threading.Event()
        self.here.set()
        self.awake.set()

    def run(self):
        while not self.stopping:
            self.here.wait()
            parameters = pika.URLParameters(self.random.choice(self.urls))
            parameters.heartbeat, parameters.socket_timeout, parameters.blocked_connection_timeout = 4, 3, 10
            parameters.stack_timeout = 5
            try:
                connection = pika.BlockingConnection(parameters)
                try:
                    self.serve(connection)
                finally:
                    if connection.is_open:
                        connection.close()
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(0.3)
            except Exception as error:      # shown at the end, which fails
                self.error = repr(error)
                return

    def go_on(self, connection):
        """False: let go of the connection."""
        self.awake.wait()
        if self.cut.is_set():
            self.cut.clear()
            return False
        if not self.here.is_set():
            return False
        connection.process_data_events(0)
        return not self.stopping


class Worker(Consumer):
    """Reads the questions to all vendors and answers: at once or late, in any order, some twice, some only when asked again."""

    def __init__(self, urls, vendors, seed):
        super().__init__(urls, f"{seed} worker")
        self.vendors, self.late, self.is_patient, self.answers = vendors, [], True, 0

    def serve(self, connection):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=200)
        held, tag = [], None
        for method, _, body in channel.consume("orders.placed", inactivity_timeout=0.05):
            if method is not None:
                tag = method.delivery_tag
                question = json.loads(body)
                lines = {}
                for line in question["lines"]:
                    lines[line["productId"]] = lines.get(line["productId"], 0) + line["quantity"]
                held.append((question["orderId"], question["vendorId"], question["attempt"], lines))
                if len(held) < 50:
                    continue
            if held:
                self.answer(channel, held)
                channel.basic_ack(tag, multiple=True)
                held = []
            self.send_late(channel)
            if not self.go_on(connection):
                return

    def answer(self, channel, questions):
        self.random.shuffle(questions)
        for question in questions:
            mood = self.random.random() if self.is_patient else 1
            if mood < 0.01:
                continue            # until it is asked again
            if mood < 0.04:
                self.late.append((time.monotonic() + self.random.uniform(0.5, 6), question))
            else:
                self.send(channel, question)
            if mood > 0.97:
                self.send(channel, question)

    def send_late(self, channel):
        due = [entry for entry in self.late if entry[0] < time.monotonic() or not self.is_patient]
        for entry in due:
            self.send(channel, entry[1])
            self.late.remove(entry)

    def send(self, channel, question):
        order, name, attempt, lines = question
        status = self.vendors[name].decide((order, attempt), lines)
        channel.basic_publish("", "orders.replies", json.dumps({"orderId": order, "vendorId": name, "attempt": attempt, "status": status}),
                              pika.BasicProperties(delivery_mode=2))
        self.answers += 1


class Auditor(Consumer):
    """Hears every event, remembers which, and tells the vendors what is not wanted any more."""

    QUEUE = "chaos.events"

    def __init__(self, urls, vendors, seed):
        super().__init__(urls, f"{seed} auditor")
        self.vendors, self.heard, self.twice, self.placed = vendors, set(), 0, set()
        self.moments = []           # when events of orders came

    def declare(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.urls[0]))
        channel = connection.channel()
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare(self.QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(self.QUEUE, "orders", "#")
        connection.close()

    def serve(self, connection):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=500)
        unacked, tag = 0, None
        for method, properties, body in channel.consume(self.QUEUE, inactivity_timeout=0.05):
            if method is not None:
                self.hear(method.routing_key, properties.message_id, body)
                tag, unacked = method.delivery_tag, unacked + 1
                if unacked < 200:
                    continue
            if unacked:
                channel.basic_ack(tag, multiple=True)
                unacked = 0
            if not self.go_on(connection):
                return

    def hear(self, key, message_id, body):
        self.twice += message_id in self.heard
        self.heard.add(message_id)
        if key.startswith("order.placed."):
            self.placed.add(json.loads(body)["orderId"])
            self.moments.append(time.monotonic())
        elif key.startswith("order.cancelled."):
            event = json.loads(body)
            self.vendors[event["vendorId"]].put_back((event["orderId"], event["attempt"]))
