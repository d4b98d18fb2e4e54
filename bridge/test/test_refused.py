"""What the broker does not take stops nothing else: it is found, kept aside with the broker's words, and sent when it can be."""

import collections
import contextlib
import json
import time

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, SANITIZED, Proxy, wait_until


def raw_event(world, key, headers, payload='{}'):
    """An event past publish_event(), which refuses what is known beforehand."""
    return world.value("""INSERT INTO order_aggregator.outbox (event_id, txid, message_id, routing_key, mandatory, headers, payload, created_at)
                          VALUES (nextval('order_aggregator.event_id_seq'), pg_current_xact_id(), gen_random_uuid(), %s, false, %s, %s, now())
                          RETURNING event_id""", key, headers, payload)


def parked(world):
    return world.db.execute("SELECT routing_key, reply_code, reply_text FROM order_aggregator.unroutable_event ORDER BY event_id").fetchall()


@pytest.mark.parametrize("poison", [1, 3, 12])
def test_an_event_that_the_broker_closes_over_is_parked_and_the_others_go_on(world, poison):
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.a")
    for n in range(poison):
        assert world.place(20) == 20
        raw_event(world, f"poison.{n}", '{"CC": "x"}')
    assert world.place(20) == 20
    bridge = world.ready_bridge("--roles=http,relay")
    placed = 20 * (poison + 1)
    wait_until(lambda: world.relayed_all() and world.depth(queue) >= placed, what="the orders")
    assert sorted({json.loads(body)["orderId"] for _, body, _ in world.take(queue)}) == list(range(1, placed + 1))
    found = parked(world)
    assert [key for key, _, _ in found] == [f"poison.{n}" for n in range(poison)]
    assert all(code == 406 and "PRECONDITION_FAILED" in words for _, code, words in found)
    assert bridge.metric("events_refused_total") == poison
    # and it goes on at once afterwards
    assert world.place(5) == 5
    wait_until(lambda: world.depth(queue) == 5, what="later orders")
    world.consistent()


def limit_messages(world, size):
    """For channels that begin from then on; RabbitMQ 4 keeps the limit elsewhere. Returns what it was."""
    was = world.servers.rabbitmqctl("eval", "{ok, Size} = application:get_env(rabbit, max_message_size), Size.").strip()
    world.servers.rabbitmqctl("eval", f"application:set_env(rabbit, max_message_size, {size}), persistent_term:put(max_message_size, {size}).")
    return was


def test_an_event_larger_than_the_broker_takes_is_parked(world):
    queue = world.listen("big", "small")
    was = limit_messages(world, 1000000)
    try:
        bridge = world.ready_bridge("--roles=http,relay")
        for key, size in (("small", 10), ("big", 2_000_000), ("small", 10), ("big", 900_000)):
            world.db.execute("SELECT order_aggregator.publish_event(%s, to_jsonb(repeat('x', %s)))", [key, size])
        wait_until(lambda: world.depth(queue) == 3, what="what it takes")
        [(key, code, words)] = parked(world)
        assert (key, code) == ("big", 406) and "larger than" in words
    finally:
        limit_messages(world, was)
    bridge.stop()       # a channel keeps the limit that it began with
    world.ready_bridge("--roles=http,relay")
    assert world.command("redrive").stdout.startswith("parked events redriven: 1")
    wait_until(lambda: world.depth(queue) == 4, what="the one that was parked")


@pytest.mark.parametrize("forbidden", [1, 600])
def test_what_may_be_our_fault_is_sent_again_when_it_is_allowed(world, forbidden):
    """A topic permission that one key lacks: it is deferred, not parked, and the others go on, however often it is due again meanwhile, and
    however much of it there is, and comes first: the channel is closed over one of it."""
    world.stock(a={"x": 100})
    queue = world.listen("order.placed.a", "mine.secret")
    bridge = world.ready_bridge("--roles=http,relay")
    user = "order_aggregator"
    try:
        world.servers.rabbitmqctl("set_topic_permissions", user, "orders", "^(order|stock)[.].*", ".*")
        world.db.execute("SELECT order_aggregator.publish_event('mine.secret', to_jsonb(n)) FROM generate_series(1, %s) AS n", [forbidden])
        assert world.place(10) == 10
        wait_until(lambda: world.depth(queue) == 10, what="the orders")
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event WHERE reply_text LIKE 'ACCESS_REFUSED%%'") == forbidden, what="the deferral")
        assert parked(world) == []
        reconnects = bridge.metric("reconnects_total")
        world.db.execute("SELECT order_aggregator.publish_event('mine.secret', to_jsonb(n)) FROM generate_series(1, 500) AS n")
        forbidden += 500
        wait_until(lambda: world.value("SELECT count(*) = %s AND min(tries) >= 5 FROM order_aggregator.deferred_event", forbidden),
                   what="each of them to be due some more times, while nothing else comes")
        assert world.place(10) == 10
        wait_until(lambda: world.depth(queue) == 20, what="later orders")
        assert bridge.metric("reconnects_total") == reconnects
        bridge.stop()
        world.db.execute("UPDATE order_aggregator.parked_event SET retry_at = now() WHERE retry_at IS NOT NULL")
        assert world.place(10) == 10
        world.ready_bridge("--roles=http,relay")
        wait_until(lambda: world.depth(queue) == 30, what="the orders of another bridge, to which all of them are due at once")
    finally:
        world.servers.rabbitmqctl("clear_topic_permissions", user)
    wait_until(lambda: world.depth(queue) == 30 + forbidden, what="what is allowed now")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event") == 0, what="the end of the deferral")


def test_an_event_that_costs_the_connection_each_time_is_found_also_beside_another_bridge(world):
    """No words, and the channel is not closed: after some losses it is deferred. Whoever takes over meanwhile begins to look anew."""
    queue = world.listen("mine.good")
    proxy = Proxy(world.env["RABBITMQ_URL"])
    proxy.cut_on = b"poison"
    bridges = [world.ready_bridge("--roles=http,relay", RABBITMQ_URL=proxy.url) for _ in range(2)]
    with world.db.transaction():
        for n in range(41):
            world.db.execute("SELECT order_aggregator.publish_event(%s, to_jsonb(%s::text))", ["mine.bad" if n == 20 else "mine.good", "poison, and more" if n == 20 else str(n)])
    wait_until(lambda: world.value("SELECT max(reply_text) FROM order_aggregator.deferred_event") == "the connection was lost each time it was sent", what="it to be found")
    wait_until(lambda: world.relayed_all(), what="the others")
    assert {json.loads(body) for _, body, _ in world.take(queue)} == {str(n) for n in range(41) if n != 20}
    proxy.cut_on = None
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event") == 0, what="what is taken now")
    for bridge in bridges:
        bridge.stop()
    proxy.close()


def test_the_broker_s_words_are_written_down_though_they_end_inside_a_character(world):
    """RabbitMQ quotes the key and cuts its words at 252 bytes."""
    world.stock(a={"x": 100})
    queue = world.listen("order.placed.a")
    keys = [f"mine{n * 'x'}." + 100 * "é" + "." + 10 * "𝔘" for n in range(4)]
    user = "order_aggregator"
    try:
        world.servers.rabbitmqctl("set_topic_permissions", user, "orders", "^(order|stock)[.].*", ".*")
        with world.db.transaction():
            for key in keys:
                world.db.execute("SELECT order_aggregator.publish_event(%s, '{}')", [key])
        assert world.place(10) == 10
        world.ready_bridge("--roles=http,relay")
        wait_until(lambda: world.depth(queue) == 10, what="the orders")
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event WHERE reply_text LIKE 'ACCESS_REFUSED%%'") == 4, what="the deferral")
    finally:
        world.servers.rabbitmqctl("clear_topic_permissions", user)
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event") == 0, what="what is allowed now")
    world.consistent()


def test_somebody_s_lock_on_what_is_kept_aside_has_nothing_sent_twice(world):
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.a")
    bridge = world.ready_bridge("--roles=http,relay")
    with psycopg.connect(world.url) as other:
        other.execute("LOCK TABLE order_aggregator.parked_event IN ACCESS EXCLUSIVE MODE")
        world.db.execute("SELECT order_aggregator.publish_event('nobody.takes.it', '{}', mandatory => true)")
        for _ in range(26):
            assert world.place(5) == 5
            time.sleep(0.2)     # in all longer than it is waited for
        other.rollback()
    wait_until(lambda: [key for key, _, _ in parked(world)] == ["nobody.takes.it"], what="it to be parked")
    wait_until(world.relayed_all, what="the orders")
    assert bridge.metric("reconnects_total") == 0 and world.depth(queue) == 130
    world.consistent()


def test_somebody_s_lock_on_what_is_kept_aside_holds_up_what_the_broker_closes_over_alone(world):
    """Two bridges: while it cannot be written down the one that leads goes on leading."""
    queue = world.listen("big", "small")
    was = limit_messages(world, 1000000)
    try:
        for _ in range(2):
            world.ready_bridge("--roles=http,relay")
        with psycopg.connect(world.url) as other:
            other.execute("LOCK TABLE order_aggregator.parked_event IN EXCLUSIVE MODE")
            with world.db.transaction():
                for n, size in enumerate((10, 2_000_000, 11, 12)):
                    world.db.execute("SELECT order_aggregator.publish_event(%s, to_jsonb(repeat('x', %s)))", ["big" if n == 1 else "small", size])
            wait_until(lambda: any(bridge.logged("RabbitMQ refuses event 2:") for bridge in world.programs), what="the event to be found")
            epoch = world.value("SELECT epoch FROM order_aggregator.relay_checkpoint")
            taken = []

            def come():
                taken.extend(len(body) for _, body, _ in world.take(queue))
                return {12, 13, 14} <= set(taken)
            wait_until(come, what="the others")
            wait_until(lambda: sum(bridge.log_path.read_text().count("parking an event: ERROR") for bridge in world.programs) >= 3, what="some tries")
            assert world.value("SELECT epoch FROM order_aggregator.relay_checkpoint") == epoch
            assert world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 0 and world.take(queue) == []
            other.rollback()
        wait_until(lambda: [key for key, _, _ in parked(world)] == ["big"], what="it to be parked")
        wait_until(lambda: world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 4, what="the checkpoint")
        assert world.value("SELECT epoch FROM order_aggregator.relay_checkpoint") == epoch and world.take(queue) == []
    finally:
        limit_messages(world, was)


def test_one_full_queue_holds_up_no_other_key(world):
    world.stock(a={"x": 2000})
    orders = world.listen("order.placed.a")
    channel = world.channel()
    full = channel.queue_declare(f"{world.name}.full", durable=True, arguments={"x-max-length": 5, "x-overflow": "reject-publish"}).method.queue
    world.listening.append(full)
    channel.queue_bind(full, "orders", "full.#")
    bridge = world.ready_bridge("--roles=http,relay")
    for n in range(20):
        world.db.execute("SELECT order_aggregator.publish_event('full.' || n %% 3, to_jsonb(%s * 100 + n)) FROM generate_series(1, 20) AS n", [n])
        assert world.place(20) == 20
        wait_until(lambda: world.depth(orders) == 20 * (n + 1), what="orders beside a full queue")
    assert requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200
    assert world.value("SELECT count(*) FROM order_aggregator.deferred_event") > 300 and bridge.metric("events_deferred_total") > 300
    taken = []
    deadline = time.monotonic() + 2 * PATIENCE_S
    while len({p.message_id for p, _ in taken}) < 400:
        assert time.monotonic() < deadline, f"{len(taken)} of 400 came"
        method, properties, body = channel.basic_get(full, auto_ack=True)
        if method is None:
            time.sleep(0.02)
        else:
            taken.append((properties, json.loads(body)))
    assert {body for _, body in taken} == {n * 100 + m for n in range(20) for m in range(1, 21)}
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.deferred_event") == 0, what="nothing to be left")
    channel.connection.close()
    world.consistent()


@contextlib.contextmanager
def suspended(world, queue):
    """It does not answer meanwhile; gives what wakes it up."""
    process = f'whereis(list_to_atom("%2F_{queue}"))'

    def wake_up():
        world.servers.rabbitmqctl("eval", f"sys:resume({process}).")
    world.servers.rabbitmqctl("eval", f"ok = sys:suspend({process}).")
    try:
        yield wake_up
    finally:
        wake_up()


@contextlib.contextmanager
def hanging(world, *keys):
    """A quorum queue that does not answer, as one that has lost its majority; gives its name and what wakes it up."""
    channel = world.channel()
    queue = channel.queue_declare(f"{world.name}.hanging", durable=True, arguments={"x-queue-type": "quorum"}).method.queue
    world.listening.append(queue)
    for key in keys:
        channel.queue_bind(queue, "orders", key)
    channel.connection.close()
    with suspended(world, queue) as wake_up:
        yield queue, wake_up


def deferred(world):
    return world.value("SELECT count(*) FROM order_aggregator.deferred_event WHERE reply_text LIKE '%%a queue hangs'")


def test_a_queue_that_hangs_holds_up_no_other_key(world):
    """RabbitMQ lets all wait for it that is published over the same connection."""
    world.stock(a={"x": 1000}, b={"y": 1000})
    orders, last = world.listen("order.placed.b"), 0

    def others_go_on(place=lambda: world.place(10, "y")):
        nonlocal last
        assert place() == 10
        world.take_orders(orders, range(last + 1, last + 11))
        last += 10

    def beside_it():
        with world.db.transaction():        # they are read together
            world.db.execute("SELECT order_aggregator.publish_event('also.' || n, to_jsonb(n)) FROM generate_series(1, 10) AS n")
            return world.place(10, "y")
    with hanging(world, "order.placed.a", "also.*") as (queue, wake_up):
        bridge = world.ready_bridge("--roles=http,relay", BROKER_TIMEOUT_S="6")
        others_go_on(beside_it)
        for n in range(1, 11):
            assert world.place(10) == 10
            last += 10
            others_go_on()
        wait_until(lambda: deferred(world) == 110, what="the deferral of all of it")
        reconnects = bridge.metric("reconnects_total")
        wait_until(lambda: world.value("SELECT min(tries) FROM order_aggregator.deferred_event") >= 4, what="each to be due some times")
        others_go_on()
        assert bridge.metric("reconnects_total") == reconnects      # trying it again costs nobody anything
        assert requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200
        bridge.stop()
        bridge = world.ready_bridge("--roles=http,relay", BROKER_TIMEOUT_S="6")     # to which all of it is due at once
        others_go_on()
        wait_until(lambda: bridge.logged("does not answer for key order.placed.a"), what="it to be found")
        wake_up()
        wait_until(lambda: deferred(world) == 0, what="the end of the deferral")
        taken = {properties.message_id: key for properties, _, key in world.take(queue)}
        assert collections.Counter(taken.values()) == {"order.placed.a": 100, **{f"also.{n}": 1 for n in range(1, 11)}}
        reconnects = bridge.metric("reconnects_total")
        assert world.place(10) == 10
        world.take_orders(queue, range(last + 1, last + 11))
        assert bridge.metric("reconnects_total") == reconnects
    assert bridge.logged("answers for key order.placed.a again")
    world.consistent()


def test_replies_go_on_while_the_queue_of_the_dead_hangs(world):
    world.stock(a={"x": 100})
    bridge = world.ready_bridge(BROKER_TIMEOUT_S=str(4 * PATIENCE_S))
    world.place(20)
    with suspended(world, "orders.replies.dead") as wake_up:
        world.reply(*(f"not json {n}" for n in range(21, 501)))
        for n in range(1, 21):
            world.reply(f"not json {n}", json.dumps({"orderId": n, "vendorId": "a", "attempt": 1, "status": "confirmed"}))
            wait_until(lambda: world.statuses().get("confirmed") == n, what="the good one")
            time.sleep(0.35)    # in all longer than from one count of the dead to the next
        assert requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200
        wake_up()
        wait_until(lambda: world.depth("orders.replies.dead") == 500, what="the dead ones")
    wait_until(lambda: world.depth("orders.replies") == 0, what="nothing to be left")
    assert {body for _, body, _ in world.take("orders.replies.dead")} == {f"not json {n}".encode() for n in range(1, 501)}
    assert bridge.metric("reconnects_total") == 0
    world.consistent()


@pytest.mark.parametrize("how", ["deleted", "unbound"])
def test_the_queue_of_placed_orders_is_missed_though_another_queue_takes_them(world, how):
    world.stock(a={"x": 1000})
    world.listen("order.#")
    world.vendors()
    world.ready_bridge(ASK_AGAIN_S="2")
    assert world.place(5) == 5
    wait_until(lambda: world.statuses() == {"confirmed": 5}, what="the first orders")
    channel = world.channel()
    for placed in range(10, 60, 5):
        if how == "deleted":
            channel.queue_delete("orders.placed")
        else:
            channel.queue_unbind("orders.placed", "orders", "order.placed.*")
        time.sleep(0.3)     # the relay's next look at the queue comes first, or has been
        assert world.place(5) == 5
    wait_until(lambda: world.statuses() == {"confirmed": 55}, what="orders to reach their vendor")
    channel.connection.close()
    world.consistent()


def test_bytes_bound_what_is_in_flight(world):
    world.ready_bridge("--roles=http,relay")    # its queues
    queue = world.listen("huge")
    world.programs[0].stop()
    for _ in range(24):
        world.db.execute("SELECT order_aggregator.publish_event('huge', to_jsonb(repeat('x', 12000000)))")
    bridge = world.ready_bridge("--roles=http,relay", BROKER_TIMEOUT_S="60")
    wait_until(lambda: world.depth(queue) == 24, 120, "the events")
    assert SANITIZED or bridge.memory_kb() < 150_000, f"{bridge.memory_kb()} kB"


def test_silent_vendors_are_not_asked_while_questions_wait_unread(world):
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge(ASK_AGAIN_S="1", LOG_LEVEL="debug")     # and nobody reads orders.placed
    assert world.place(50) == 50
    wait_until(lambda: world.depth("orders.placed") == 50, what="the questions")
    wait_until(lambda: bridge.log_path.read_text().count("no vendor is asked again: 50 questions wait unread") >= 3, what="three looks")
    assert world.value("SELECT count(*) FROM order_aggregator.vendor_retry") == 0
    assert world.depth("orders.placed") == 50
    # a vendor that takes them and says nothing is asked again, less and less often
    sim = world.vendors("--silent-vendor=a")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.vendor_retry") >= 100, what="two repetitions of each")
    first, second = world.db.execute("""SELECT extract(epoch FROM min(r.retried_at - o.placed_at))::float, extract(epoch FROM min(r.gap))::float
        FROM (SELECT order_id, retried_at, retried_at - lag(retried_at) OVER (PARTITION BY order_id ORDER BY retried_at) AS gap
              FROM order_aggregator.vendor_retry) AS r JOIN order_aggregator.orders AS o USING (order_id)""").fetchone()
    assert first >= 1 and second >= 2, (first, second)
    assert sim.process.poll() is None and bridge.process.poll() is None


def test_a_sequence_of_event_ids_that_was_set_back_is_noticed_and_nothing_is_lost(world):
    world.stock(a={"x": 100})
    queue = world.listen("order.placed.a")
    bridge = world.ready_bridge("--roles=http,relay")
    assert world.place(20) == 20
    wait_until(world.relayed_all, what="the first orders")
    wait_until(lambda: world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") >= 21, what="the checkpoint")
    world.db.execute("DELETE FROM order_aggregator.outbox")
    world.db.execute("SELECT setval('order_aggregator.event_id_seq', 5)")
    assert world.place(3) == 3
    wait_until(lambda: bridge.logged("event ids went back"), what="the relay to notice")
    wait_until(lambda: world.depth(queue) == 23, what="the new orders all the same")
    assert bridge.metric("outbox_events_misplaced") == 1


def test_events_that_came_by_another_way_are_noticed(world):
    world.stock(a={"x": 1})
    world.db.execute("""INSERT INTO order_aggregator.outbox (event_id, txid, message_id, routing_key, mandatory, payload, created_at)
                        VALUES (1000, pg_current_xact_id(), gen_random_uuid(), 'elsewhere', false, '{}', now())""")
    bridge = world.ready_bridge("--roles=http,relay")
    wait_until(lambda: bridge.metric("outbox_events_misplaced") == 1, what="the relay to notice")
    assert bridge.logged("has not given out the ids of")
    problems = world.db.execute("SELECT problem, subject FROM order_aggregator.check_consistency()").fetchall()
    assert problems == [("an event was not written by this database", "event 1000")]
