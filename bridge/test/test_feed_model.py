"""Random feeds, maps and orders against one vendor's true shelf: no unit is ever held or confirmed that it does not have.

The vendor's file may have an honest time, one that stands still, or one ahead of ours; rows are left out or unreadable; its
feeds are applied in parts, and some are never finished; SKUs change their products, and swap them.
Seeded: MODEL_SEED=7 MODEL_SECONDS=60 pytest bridge/test/test_feed_model.py replays the choices of a run, and more of them.
"""

import os
import random

import psycopg
import pytest
from psycopg.types.json import Jsonb

SEED = int(os.environ.get("MODEL_SEED", 1))
SEEDS = int(float(os.environ.get("MODEL_SECONDS", 5)) * 3)
STEPS = 250
SHELF = 20
UNREADABLE = '"?"'
TIMES = ["honest", "still", "still", "ahead"]


class Shop:
    """One vendor with a few SKUs, each of which has units on its shelf; and what the orders hold of it."""

    def __init__(self, db, seed, all_mapped):
        self.db, self.random, self.all_mapped, self.vendor = db, random.Random(seed), all_mapped, f"v{seed}"
        self.skus, self.products = [f"{seed}-{n}" for n in range(4)], [f"{seed}-product-{n}" for n in range(5)]
        if not all_mapped:      # a SKU without an entry is a product by its own name
            self.products = self.skus + self.products
        self.shelf, self.held, self.log, self.told, self.confirmed = {sku: SHELF for sku in self.skus}, {}, [], set(), 0
        self.value("SELECT register_vendor(%s, 'V')", self.vendor)
        self.value("SELECT configure_vendor(%s, drop_limit => 100)", self.vendor)
        if all_mapped:
            self.map_products(dict(zip(self.skus, self.products)))
        self.change_clock()
        self.write_file()
        self.pull()

    def value(self, sql, *parameters):
        return self.db.execute(sql, parameters).fetchone()[0]

    def map_products(self, change):
        self.value("SELECT map_products(%s, %s)", self.vendor, Jsonb([{"vendorSku": sku, "productId": product} for sku, product in change.items()]))

    # ---------- the vendor ----------

    def change_clock(self):
        self.time, self.changed_at = self.random.choice(TIMES), self.value("SELECT clock_timestamp()")

    def write_file(self):
        rows = {}
        for sku in self.skus:
            what = self.random.random()
            if not self.all_mapped or what > 0.12:
                rows[sku] = UNREADABLE if self.all_mapped and what > 0.93 else str(self.shelf[sku])
        written_at = self.value("SELECT clock_timestamp()") if self.time == "honest" else self.changed_at
        self.file = rows, self.time, written_at, f"{self.time} {written_at}"

    def restock(self):
        self.shelf[self.random.choice(self.skus)] += self.random.choice([1, 3, 10])

    # ---------- its feeds ----------

    def pull(self):
        rows, time, written_at, told = self.file
        if time == "ahead" and told not in self.told:       # such a time is none: what it tells first counts as made when it was asked for
            rows = {sku: count if count == UNREADABLE else str(self.shelf[sku]) for sku, count in rows.items()}
            self.file = rows, time, written_at, told
        self.told.add(told)
        pulled_at = self.value("SELECT clock_timestamp()")
        sync_id = self.value("SELECT begin_feed(%s, %s, 'Last-Modified', %s, %s, %s, %s, %s, %s)", self.vendor, pulled_at if time == "ahead" else written_at,
                             told, pulled_at, len(rows), list(rows.values()).count(UNREADABLE), len(rows), sorted(rows))
        self.log.append(("pull", told, rows, sync_id))
        ends = sorted(self.random.sample(self.skus[:-1], self.random.choice([0, 0, 1, 2]))) if self.all_mapped else []
        if sync_id is not None and all(self.apply_part(sync_id, rows, after, upto) for after, upto in zip([None, *ends], [*ends, None])):
            self.log.append(self.value("SELECT finish_feed(%s)", sync_id)["rules"])

    def apply_part(self, sync_id, rows, after, upto):
        part = sorted(sku for sku in rows if (after is None or sku > after) and (upto is None or sku <= upto))
        self.value("SELECT apply_feed_part(%s, %s, %s, %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])", sync_id, after, upto,
                   list(range(len(part))), part, [None] * len(part), [rows[sku] for sku in part], ["1"] * len(part), [None] * len(part))
        if self.random.random() < 0.3:
            self.order()
        return self.random.random() < 0.9       # else whoever applied it dies

    def change_map(self):
        mapped = dict(self.db.execute("SELECT vendor_sku, product_id FROM product_map WHERE vendor_id = %s", [self.vendor]).fetchall())
        change = {self.random.choice(self.skus): self.random.choice(self.products if self.all_mapped else [*self.products, None])}
        if self.random.random() < 0.6 and len(mapped) > 1:
            one, other = self.random.sample(sorted(mapped), 2)
            change = {one: mapped[other], other: mapped[one]}
        try:
            self.map_products(change)
            self.log.append(("map", change))
        except psycopg.errors.UniqueViolation:
            pass        # the product has another SKU

    # ---------- the orders ----------

    def order(self):
        product, quantity = self.random.choice(self.products), self.random.choice([1, 2, 3, 8])
        try:
            order_id = self.value("SELECT place_order('c', %s)", Jsonb([{"productId": product, "quantity": quantity}]))
        except psycopg.Error as error:
            assert error.sqlstate in ("OA001", "OA002"), error
            return
        sku = self.value("SELECT vendor_sku FROM stock WHERE product_id = %s", product)
        self.held[order_id] = sku, quantity
        self.log.append(("order", order_id, product, sku, quantity))

    def settle(self, sql):
        if not self.held:
            return None
        order_id = self.random.choice(sorted(self.held))
        self.value(sql, order_id)
        self.log.append((sql, order_id))
        return self.held.pop(order_id)

    def confirm(self):
        if (units := self.settle("SELECT confirm_order(%s)")) is not None:
            self.shelf[units[0]] -= units[1]
            self.confirmed += units[1]

    def cancel(self):
        self.settle("SELECT cancel_order(%s, 'no')")

    # ---------- both ----------

    def step(self):
        self.random.choices([self.order, self.confirm, self.cancel, self.restock, self.write_file, self.pull, self.change_map, self.change_clock],
                            [30, 15, 4, 5, 10, 25, 6, 3])[0]()
        held = dict.fromkeys(self.skus, 0)
        for sku, quantity in self.held.values():
            held[sku] += quantity
        assert all(held[sku] <= self.shelf[sku] for sku in self.skus), (self.vendor, held, self.shelf, self.log)


@pytest.mark.parametrize("all_mapped", [True, False])
def test_no_unit_is_sold_that_the_vendor_does_not_have(world, all_mapped):
    world.db.execute("SET search_path = order_aggregator, public")
    confirmed = 0
    for seed in range(SEED, SEED + SEEDS):
        shop = Shop(world.db, seed, all_mapped)
        for _ in range(STEPS):
            shop.step()
        confirmed += shop.confirmed
        world.consistent()
    assert confirmed > SEEDS * SHELF / 2
