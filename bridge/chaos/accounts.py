"""In the end the accounts of the database, the broker, the vendors and the clients are compared, to the unit."""

import collections


def compare(db, ledger, vendors, auditor):
    """What was lost, done twice, oversold, or is otherwise not as it should be: {kind: [what]}."""
    found = {"lost": [], "twice": [], "oversold": [], "otherwise wrong": []}
    of_clients(db, ledger, found)
    of_ends(db, ledger, vendors, found)
    of_broker(db, auditor, found)
    of_vendors(db, vendors, found)
    found["otherwise wrong"] += [f"check_consistency(): {row}" for row in db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall()]
    found["otherwise wrong"] += [f"unexpected answer: {text}" for text in ledger.unexpected]
    return found


def of_clients(db, ledger, found):
    stored = dict(db.execute("SELECT order_id, status FROM order_aggregator.orders").fetchall())
    keys = dict(db.execute("SELECT key, order_id FROM order_aggregator.idempotency WHERE order_id IS NOT NULL").fetchall())
    found["twice"] += [f"key {key}: two orders" for key in ledger.twice]
    found["twice"] += [f"order {order}: {times} keys" for order, times in collections.Counter(ledger.placed.values()).items() if times > 1]
    for key, order in ledger.placed.items():
        if order not in stored:
            found["lost"].append(f"order {order} of key {key}, which was accepted")
        elif keys.get(key) != order:
            found["lost"].append(f"key {key} of order {order}")
    # each client has asked until it knew: nothing is there that nobody was told of
    found["twice"] += [f"order {order}: nobody was told of it" for order in stored.keys() - set(ledger.placed.values())]
    found["twice"] += [f"key {key}: refused, and there is an order" for key in ledger.refused if key in keys]
    found["lost"] += [f"order {order}: cancelled, and it is {stored.get(order)}" for order in ledger.cancelled if stored.get(order) != "cancelled"]
    found["otherwise wrong"] += [f"order {order}: cancelled, and nobody has asked for it" for order, status in stored.items() if status == "cancelled" and order not in ledger.to_cancel]
    returns = dict(db.execute("SELECT return_id, order_id FROM order_aggregator.order_return").fetchall())
    found["lost"] += [f"return {number} of order {order}" for order, number in ledger.returned.items() if returns.get(number) != order]
    found["twice"] += [f"return {number} of order {order}: nobody was told of it" for number, order in returns.items() if ledger.returned.get(order) != number]
    found["twice"] += [f"order {order}: returned {times} times" for order, times in collections.Counter(returns.values()).items() if times > 1]
    of_units(found, "order", ledger.units, units_of(db, "order_line"))
    of_units(found, "the return of order", {order: ledger.units[order] for order in ledger.returned}, units_of(db, "order_return"))


def of_ends(db, ledger, vendors, found):
    """An order ends because its time is over, or its vendors refuse: the clock, and the vendors, say the same."""
    wrong = found["otherwise wrong"]
    held = dict(db.execute("SELECT order_id, expires_at - placed_at FROM order_aggregator.orders").fetchall())
    asked = {text: db.execute("SELECT %s::interval", [text]).fetchone()[0] for text in set(ledger.hold_for.values())}
    wrong += [f"order {order} is held for {held[order]}, asked for was {asked[text]}" for order, text in ledger.hold_for.items() if held.get(order, asked[text]) != asked[text]]
    # when its holds were let go: closed_at is when that transaction began, which may have waited for locks
    wrong += [f"order {order}: expired at {at}, and it had until {until}" for order, until, at in db.execute(
        """SELECT order_id, expires_at, min(settled_at) FILTER (WHERE hold.status IN ('released', 'returned'))
           FROM order_aggregator.orders LEFT JOIN order_aggregator.hold USING (order_id) WHERE orders.status = 'expired' GROUP BY 1""").fetchall() if at is None or at < until]
    refusals = {(order, attempt, name) for order, attempt, name in db.execute(
        "SELECT order_id, attempt, vendor_id FROM order_aggregator.hold WHERE status = 'rejected' OR (status = 'released' AND reason LIKE 'rejected by the vendor%')").fetchall()}
    wrong += [f"vendor {name}: has not refused {(order, attempt)}" for order, attempt, name in sorted(refusals) if vendors[name].decided.get((order, attempt)) != "rejected"]
    rejected = {order for order, in db.execute("SELECT order_id FROM order_aggregator.orders WHERE status = 'rejected'").fetchall()}
    wrong += [f"order {order}: rejected, and no vendor has refused it" for order in sorted(rejected - {order for order, _, _ in refusals})]


def units_of(db, table):
    """{order: {product: units}}"""
    units = {}
    for order, product, quantity in db.execute(f"SELECT order_id, product_id, sum(quantity)::int FROM order_aggregator.{table} GROUP BY 1, 2").fetchall():
        units.setdefault(order, {})[product] = quantity
    return units


def of_units(found, what, asked, stored):
    found["otherwise wrong"] += [f"{what} {order} has {stored[order]}, asked for was {units}" for order, units in asked.items() if stored.get(order, units) != units]


def of_broker(db, auditor, found):
    stored = {str(row[0]) for row in db.execute("SELECT message_id FROM order_aggregator.outbox").fetchall()}
    orders = {row[0] for row in db.execute("SELECT order_id FROM order_aggregator.orders").fetchall()}
    found["lost"] += [f"event {event}: the broker never had it" for event in sorted(stored - auditor.heard)]
    found["otherwise wrong"] += [f"event {event}: with the broker, and not in the database" for event in sorted(auditor.heard - stored)]
    found["otherwise wrong"] += [f"order {order}: with the broker, and not in the database" for order in sorted(auditor.placed - orders)]


def of_vendors(db, vendors, found):
    """What a vendor has confirmed and not been told to forget is what the database says that it confirmed."""
    for name, vendor in vendors.items():
        confirmed = {}
        for order, attempt, product, quantity in db.execute(
                "SELECT order_id, attempt, product_id, sum(quantity)::int FROM order_aggregator.hold WHERE vendor_id = %s AND status = 'confirmed' GROUP BY 1, 2, 3", [name]).fetchall():
            confirmed.setdefault((order, attempt), {})[product] = quantity
        for part in confirmed.keys() | vendor.taken.keys():
            ours, its = confirmed.get(part), vendor.taken.get(part)
            if ours is None:
                found["lost"].append(f"vendor {name}: it confirmed {part} and was not told that it is not wanted")
            elif its is None:
                found["oversold"].append(f"vendor {name}: confirmed {part} without having said so")
            elif ours != its:
                found["oversold"].append(f"vendor {name}: {part} is {ours}, it says {its}")
        for product, given in vendor.given.items():
            sold = sum(units.get(product, 0) for units in confirmed.values())
            if sold != given - vendor.shelf[product] or vendor.shelf[product] < 0:
                found["oversold"].append(f"vendor {name} {product}: {sold} sold, {given} given, {vendor.shelf[product]} left")
        over = {(order, attempt): at for order, attempt, at in db.execute(
            "SELECT order_id, attempt, max(settled_at) FROM order_aggregator.hold WHERE vendor_id = %s AND status IN ('rejected', 'released', 'returned') GROUP BY 1, 2", [name]).fetchall()}
        found["oversold"] += [f"vendor {name}, {at}: was asked for {lines} of {part} and had not so many" for at, part, lines in vendor.sold_short(over)]
