"""A week of feeds and orders, hour by hour, against a model of what is truly on the vendors' shelves.

Feeds lag, repeat, come out of order, lose items, and lie; some cannot be read in part or at all, or have suddenly nothing;
one vendor writes numbers as people do, one has a row for each of two warehouses, one's clock stands still; shelves break;
vendors answer late. Wherever the last feed of a product told the truth at its time, no unit is sold that its vendor does
not have; where it did not, the next true feed reports the product as oversold.

Seeded: WEEK_SEED=7 WEEKS=4 pytest bridge/test/test_week.py replays a run, or goes on for longer.
"""

import os
import random

import psycopg
from psycopg.types.json import Jsonb

SEED = int(os.environ.get("WEEK_SEED", 1))
HOURS = 168 * int(os.environ.get("WEEKS", 1))
PRODUCTS = [f"p{n}" for n in range(8)]
ON_SHORTAGE = {"a": "keep", "b": "resource", "c": "reject", "d": "keep", "e": "keep"}
MAPPINGS = {"b": {"decimal": ","}, "c": {"repeated": "sum"}}
FROZEN = "e"    # its Last-Modified never changes
KINDS = {"true": 6, "late": 2, "out of order": 1, "repeat": 1, "loses items": 1, "lie": 1, "unreadable item": 1, "renamed": 1, "nothing": 1}


class Vendor:
    """One vendor: its true shelf, the replies it has not sent yet, and what the shop can know of it."""

    def __init__(self, name, chooser):
        self.name, self.random = name, chooser
        self.shelf = {p: chooser.randint(5, 30) for p in PRODUCTS}
        self.counts = []            # (time, shelf) of its last counts
        self.last_feed = None
        self.taken = {}             # (order, attempt) -> units it took off the shelf, its confirmation not yet applied
        self.decided = set()        # parts of orders it has an answer to
        self.mailbox = []           # its replies on their way
        self.broken_at = dict.fromkeys(PRODUCTS)    # when units were lost that no count has told of yet
        self.trusted = dict.fromkeys(PRODUCTS, False)   # the last feed told the truth at its time, and nothing broke since

    def put_back(self, part):
        for product, quantity in self.taken.pop(part, {}).items():
            self.shelf[product] += quantity


class Week:
    def __init__(self, world):
        self.world, self.db = world, world.db
        self.random = random.Random(SEED)
        self.vendors = {name: Vendor(name, self.random) for name in ON_SHORTAGE}
        self.sold, self.short, self.reports, self.refused, self.kinds = 0, 0, 0, 0, {}
        for priority, name in enumerate(ON_SHORTAGE):
            self.db.execute("SELECT order_aggregator.register_vendor(%s, %s, NULL, %s)", [name, name, priority])
            self.db.execute("SELECT order_aggregator.configure_vendor(%s, on_shortage => %s, feed_mapping => %s)", [name, ON_SHORTAGE[name], Jsonb(MAPPINGS.get(name, {}))])
            self.feed(self.vendors[name], "true")

    def now(self):
        return self.world.value("SELECT clock_timestamp()")

    # what is promised: open holds to which the vendor has no answer yet

    def promised(self, vendor):
        units = dict.fromkeys(PRODUCTS, 0)
        for order, attempt, product, quantity in self.db.execute(
                "SELECT order_id, attempt, product_id, quantity FROM order_aggregator.hold WHERE vendor_id = %s AND status = 'open'", [vendor.name]):
            if (order, attempt) not in vendor.decided:
                units[product] += quantity
        return units

    def no_unit_is_sold_that_is_not_there(self, before):
        """After orders were placed: whoever's promises grew has the units, if its last feed was true."""
        for vendor in self.vendors.values():
            after = self.promised(vendor)
            for product in PRODUCTS:
                grew, there = after[product] > before[vendor.name][product], after[product] <= vendor.shelf[product]
                self.sold += grew
                self.short += grew and not there
                assert there or not grew or not vendor.trusted[product], f"{vendor.name} {product}: {after[product]} of {vendor.shelf[product]}, seed {SEED}"

    # feeds

    def rows_of(self, vendor, items):
        """As the vendor writes them: numbers with a comma and points, warehouses apart, what it owes below zero."""
        rows = []
        for product, quantity in items.items():
            if quantity == 0 and self.random.random() < 0.5:
                quantity = -self.random.randint(1, 5)
            if vendor.name == "c" and quantity is not None and quantity > 1:
                part = self.random.randint(1, quantity - 1)
                rows += [(product, part), (product, quantity - part)]
            else:
                rows.append((product, quantity))
        return rows

    def whole(self, vendor, as_of, rows, kind):
        def written(quantity):
            if quantity is None:
                return "lots"
            return quantity if vendor.name != "b" else f"{quantity},0"
        feed = [{"id": product, "qty" if kind == "renamed" else "quantity": written(quantity), "price": 1} for product, quantity in rows]
        self.random.shuffle(feed)
        return self.world.value("SELECT order_aggregator.sync_vendor_stock(%s, %s, %s)", vendor.name, Jsonb(feed), as_of)

    def in_parts(self, vendor, as_of, rows, kind):
        """As the bridge does, which has read the numbers."""
        missing = len(rows) if kind == "renamed" else sum(quantity is None for _, quantity in rows)
        told, skus = ("Thu, 01 Jan 2026 10:00:00 GMT", sorted({product for product, _ in rows})) if vendor.name == FROZEN else (None, sorted({product for product, _ in rows}))
        sync_id = self.world.value("SELECT order_aggregator.begin_feed(%s, %s, 'test', %s, %s, %s, %s, %s, %s)", vendor.name,
                                   "2026-01-01 10:00Z" if told else as_of, told, as_of, len(rows), missing, len(skus), skus)
        if sync_id is None:
            return {"status": self.world.value("SELECT status FROM order_aggregator.feed_sync ORDER BY sync_id DESC LIMIT 1")}
        cut = self.random.choice(PRODUCTS)
        for after, upto in ((None, cut), (cut, None)):
            part = sorted(((p, q) for p, q in rows if (after is None or p > after) and (upto is None or p <= upto)), key=lambda row: row[0])
            self.db.execute("SELECT order_aggregator.apply_feed_part(%s, %s, %s, %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])",
                            [sync_id, after, upto, list(range(len(part))), [p for p, _ in part], [p for p, _ in part], [None if q is None else str(q) for _, q in part],
                             ["1"] * len(part), ["quantity_unreadable" if q is None else None for _, q in part]])
        return self.world.value("SELECT order_aggregator.finish_feed(%s)", sync_id)

    def apply(self, vendor, as_of, items, kind):
        """Whole, or in parts as the bridge does; returns the result, or None if the feed was not applied."""
        way = self.in_parts if vendor.name == FROZEN or self.random.random() < 0.5 else self.whole
        result = way(vendor, as_of, self.rows_of(vendor, items), kind)
        status = result["status"]
        self.kinds[kind if status == "applied" else status] = self.kinds.get(kind if status == "applied" else status, 0) + 1
        assert status != "failed" or kind == "renamed" or vendor.name != FROZEN
        return result if status == "applied" else None

    def feed(self, vendor, kind):
        as_of, items = self.now(), dict(vendor.shelf)
        if vendor.name == FROZEN and kind in ("late", "out of order", "repeat"):
            kind = "true"               # an old count under the time of a new one is a lie
        if kind == "late":              # counted at the beginning of the hour
            as_of, items = vendor.counts[-1]
        elif kind == "out of order":
            as_of, items = self.random.choice(vendor.counts)
        elif kind == "repeat":
            as_of, items = vendor.last_feed
        elif kind == "loses items":
            items = {p: q for p, q in items.items() if self.random.random() < 0.7}
        elif kind == "lie":
            items = {p: max(0, q + self.random.choice([-5, -1, 0, 1, 3, 20])) for p, q in items.items()}
        elif kind == "unreadable item":
            items[self.random.choice(PRODUCTS)] = None
        elif kind == "nothing":
            items = {}
        result = self.apply(vendor, as_of, items, kind)
        if result is None:
            return
        if kind not in ("lie", "nothing"):
            vendor.last_feed = as_of, items
        self.reports += len(result["oversold"])
        for product, count in items.items():
            broken_at = vendor.broken_at[product]
            true = count is None or (count <= vendor.shelf[product] if kind == "lie" else broken_at is None or as_of >= broken_at)
            vendor.trusted[product] = true
            if true and kind != "lie" and count is not None:
                vendor.broken_at[product] = None
        for product in PRODUCTS:
            if items.get(product) is None:
                assert self.world.value("SELECT count(*) FROM order_aggregator.stock WHERE vendor_id = %s AND product_id = %s AND is_active", vendor.name, product) == 0
        if kind == "true":
            self.every_shortage_is_reported(vendor)

    def every_shortage_is_reported(self, vendor):
        reported = {row[0] for row in self.db.execute("SELECT product_id FROM order_aggregator.shortage WHERE vendor_id = %s", [vendor.name])}
        promised = self.promised(vendor)
        for product in PRODUCTS:
            assert promised[product] <= vendor.shelf[product] or product in reported, f"{vendor.name} {product}: {promised[product]} of {vendor.shelf[product]}, seed {SEED}"

    # orders

    def place(self):
        before = {name: self.promised(vendor) for name, vendor in self.vendors.items()}
        requests = [{"products": [{"productId": p, "quantity": self.random.randint(1, 3)} for p in self.random.sample(PRODUCTS, self.random.randint(1, 3))],
                     "strategy": self.random.choice(["cheapest", "single_vendor", "priority", "most_stock", "fewest_vendors"]),
                     "allowPartial": self.random.random() < 0.2} for _ in range(self.random.randint(1, 6))]
        with self.db.transaction():
            self.db.execute(f"SET LOCAL order_aggregator.max_vendors_per_order = {self.random.choice([0, 0, 1, 2])}")
            rows = self.db.execute("SELECT order_id, error FROM order_aggregator.place_orders(%s)", [Jsonb(requests)]).fetchall()
        self.refused += sum(order is None for order, _ in rows)
        self.no_unit_is_sold_that_is_not_there(before)

    def answer(self):
        """Vendors look at what they were asked, and take the units of what they confirm off their shelves."""
        parts = {}
        for order, vendor, attempt, product, quantity in self.db.execute(
                "SELECT order_id, vendor_id, attempt, product_id, quantity FROM order_aggregator.hold WHERE status = 'open' ORDER BY 1, 2, 3, 4"):
            if (order, attempt) not in self.vendors[vendor].decided:
                parts.setdefault((order, attempt, vendor), {})[product] = quantity
        for (order, attempt, name), units in parts.items():
            vendor = self.vendors[name]
            if self.random.random() < 0.4:
                continue    # later
            confirms = all(vendor.shelf[p] >= q for p, q in units.items()) and self.random.random() < 0.9
            vendor.decided.add((order, attempt))
            if confirms:
                vendor.taken[order, attempt] = units
                for product, quantity in units.items():
                    vendor.shelf[product] -= quantity
            vendor.mailbox.append({"orderId": order, "vendorId": name, "attempt": attempt, "status": "confirmed" if confirms else "rejected"})

    def deliver(self, share):
        """Replies arrive, some twice, some only later; whoever confirmed what is not wanted any more puts it back."""
        for vendor in self.vendors.values():
            arriving = [reply for reply in vendor.mailbox if self.random.random() < share]
            vendor.mailbox = [reply for reply in vendor.mailbox if reply not in arriving]
            arriving += arriving[:1]
            before = {name: self.promised(v) for name, v in self.vendors.items()}
            outcomes = self.db.execute("SELECT outcome FROM order_aggregator.apply_vendor_replies(%s)", [Jsonb(arriving)]).fetchall()
            for reply, (outcome,) in zip(arriving, outcomes):
                assert outcome != "invalid"
                if outcome == "applied":
                    vendor.taken.pop((reply["orderId"], reply["attempt"]), None)
            self.vendors_read_what_was_cancelled()
            self.no_unit_is_sold_that_is_not_there(before)

    def vendors_read_what_was_cancelled(self):
        for order, name, attempt, status in self.db.execute(
                "SELECT DISTINCT order_id, vendor_id, attempt, status FROM order_aggregator.hold WHERE status NOT IN ('open', 'confirmed')"):
            vendor = self.vendors[name]
            if status == "returned" and (order, attempt, "back") not in vendor.decided:
                # its confirmation was applied, and the order was closed otherwise since
                vendor.decided.add((order, attempt, "back"))
                for product, quantity in self.db.execute("SELECT product_id, quantity FROM order_aggregator.hold WHERE order_id = %s AND vendor_id = %s AND attempt = %s AND status = 'returned'",
                                                         [order, name, attempt]):
                    vendor.shelf[product] += quantity
            elif status != "returned":
                vendor.put_back((order, attempt))

    def cancel(self):
        pending = [row[0] for row in self.db.execute("SELECT order_id FROM order_aggregator.orders WHERE status = 'pending' ORDER BY 1")]
        for order in self.random.sample(pending, min(len(pending), 2)):
            self.db.execute("SELECT order_aggregator.cancel_order(%s, 'changed my mind')", [order])
        self.vendors_read_what_was_cancelled()

    def send_back(self):
        """A customer returns something, and the vendor has it back at once."""
        row = self.db.execute("""SELECT h.order_id, h.line_no, h.vendor_id, h.product_id FROM order_aggregator.hold AS h JOIN order_aggregator.orders AS o USING (order_id)
                                 WHERE o.status = 'confirmed' AND h.status = 'confirmed' ORDER BY h.order_id DESC, 2, 3 LIMIT 1""").fetchone()
        if row is None:
            return
        order, line_no, vendor, product = row
        try:
            self.db.execute("SELECT order_aggregator.return_order(%s, %s)", [order, Jsonb([{"lineNo": line_no, "vendorId": vendor, "quantity": 1}])])
        except psycopg.Error as error:
            assert error.sqlstate == "OA004"    # it was sent back before
            return
        self.vendors[vendor].shelf[product] += 1

    def settle_shortages(self):
        before = {name: self.promised(vendor) for name, vendor in self.vendors.items()}
        self.db.execute("SELECT order_aggregator.settle_shortages()")
        self.vendors_read_what_was_cancelled()
        self.no_unit_is_sold_that_is_not_there(before)

    # time

    def hour(self, hour):
        for vendor in self.vendors.values():
            vendor.counts = [*vendor.counts[-5:], (self.now(), dict(vendor.shelf))]
            if hour % 24 == 6:
                for product in PRODUCTS:    # new goods in the morning
                    vendor.shelf[product] += self.random.randint(0, 8)
            if self.random.random() < 0.03:
                product = self.random.choice(PRODUCTS)
                vendor.shelf[product] = self.random.randint(0, vendor.shelf[product])
                vendor.broken_at[product], vendor.trusted[product] = self.now(), False
        for _ in range(self.random.randint(1, 3)):
            self.place()
        self.answer()
        self.deliver(0.5)
        for vendor in self.vendors.values():
            self.feed(vendor, self.random.choices([*KINDS], [*KINDS.values()])[0])
        self.place()
        self.deliver(0.7)
        if self.random.random() < 0.3:
            self.cancel()
        if self.random.random() < 0.3:
            self.send_back()
        self.settle_shortages()
        if hour % 24 == 23:
            self.world.consistent()

    def end(self):
        """Everything is answered, what is open is cancelled, true feeds come: the counters are the shelves."""
        self.deliver(1)
        self.db.execute("SELECT order_aggregator.cancel_order(order_id, 'end') FROM order_aggregator.orders WHERE status = 'pending'")
        self.vendors_read_what_was_cancelled()
        for vendor in self.vendors.values():
            self.feed(vendor, "true")
            counters = dict(self.db.execute("SELECT product_id, on_hand FROM order_aggregator.stock WHERE vendor_id = %s AND reserved = 0 AND is_active", [vendor.name]).fetchall())
            if vendor.name == FROZEN:       # what was confirmed before its last change may be subtracted once too often, never too seldom
                assert all(counters[product] <= vendor.shelf[product] for product in PRODUCTS)
            else:
                assert counters == vendor.shelf
        self.world.consistent()


def test_a_week_of_feeds_and_orders(world):
    week = Week(world)
    for hour in range(HOURS):
        week.hour(hour)
    week.end()
    print(f"WEEK_SEED={SEED}: {week.sold} promises, {week.short} of units that were not there, after untrue feeds; {week.reports} reports; "
          f"{week.refused} orders refused; feeds {week.kinds}")
    assert week.sold > 500 and week.short > 0 and week.reports > 0 and week.refused > 0
    assert set(week.kinds) == {*KINDS, "stale", "superseded", "failed", "held"} - {"renamed"}
