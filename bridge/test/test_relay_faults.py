"""The relay and the replies role, killed and cut off at every step: 0 lost, 0 applied twice, repeats under the same message_id."""

import json
import os
import signal
import time

import psycopg
import psycopg.sql
import pytest
import requests
from conftest import PATIENCE_S, SANITIZED, Proxy, wait_until
from test_faults import place_in_background

EVENTS = int(os.environ.get("SOAK_EVENTS", 100_000))
FOREIGN_SECONDS = float(os.environ.get("FOREIGN_SECONDS", 4))


def settled(world, orders, queue):
    """All are confirmed; each event is at the broker, repeats with the message_id of the first. Returns how many repeats."""
    wait_until(lambda: world.statuses() == {"confirmed": orders}, what="all to be confirmed")
    wait_until(world.relayed_all, what="the relay")
    ids = {}
    messages = world.take(queue)
    for properties, body, key in messages:
        ids.setdefault((key, json.loads(body)["orderId"]), set()).add(properties.message_id)
    assert len(ids) == 2 * orders and all(len(found) == 1 for found in ids.values())
    assert world.value("SELECT on_hand + reserved FROM order_aggregator.stock WHERE product_id = 'x'") == 0
    world.consistent()
    return len(messages) - len(ids)


@pytest.mark.parametrize("fault", ["relay.before_publish:57", "relay.before_confirm", "relay.before_checkpoint", "relay.after_checkpoint",
                                   "replies.before_commit", "replies.after_commit", "replies.before_ack", "replies.after_ack"])
def test_killed_at(world, fault):
    world.stock(a={"x": 300})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    assert world.place(150) == 150
    faulty = world.faulty_bridge(fault)
    assert faulty.process.wait(timeout=PATIENCE_S) == -signal.SIGKILL, "the fault point was not reached"
    assert world.place(150) == 150
    world.ready_bridge()
    repeats = settled(world, 300, queue)
    print(f"{fault}: {repeats} of 600 events were sent more than once")
    assert repeats <= 300


def test_killed_after_parking(world):
    faulty = world.faulty_bridge("relay.after_park")
    world.db.execute("SELECT order_aggregator.publish_event('nobody.listens', '{}', '{}', true)")
    assert faulty.process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    bridge = world.ready_bridge()
    wait_until(lambda: bridge.logged("no queue takes event"), what="the event to be returned once more")
    wait_until(lambda: world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 1, what="the checkpoint")
    assert world.value("SELECT count(*) FROM order_aggregator.unroutable_event") == 1
    assert world.command("redrive").stdout.startswith("parked events redriven: 1")


def test_killed_after_the_order_s_commit_the_key_finds_it(world):
    world.stock(a={"x": 10})
    faulty = world.faulty_bridge("placer.after_commit").wait_for("/readyz")
    order, key = {"productId": "x", "quantity": 1}, {"Idempotency-Key": "k"}
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{faulty.url}/order", json=order, headers=key, timeout=PATIENCE_S)
    bridge = world.ready_bridge()
    answer = requests.post(f"{bridge.url}/order", json=order, headers=key, timeout=PATIENCE_S)
    assert answer.status_code == 201 and answer.json()["orderId"] == 1
    assert world.value("SELECT count(*) FROM order_aggregator.orders") == 1
    world.consistent()


def test_parking_that_fails_is_tried_again(world):
    world.db.execute("ALTER TABLE order_aggregator.parked_event RENAME TO elsewhere")
    bridge = world.ready_bridge()
    world.db.execute("SELECT order_aggregator.publish_event('nobody.listens', '{}', '{}', true)")
    wait_until(lambda: bridge.logged("parking an event"), what="parking to fail")
    assert world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 0
    world.db.execute("ALTER TABLE order_aggregator.elsewhere RENAME TO parked_event")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.unroutable_event") == 1, what="the event to be parked")


def test_an_event_that_cannot_be_parked_is_tried_again_and_has_nothing_sent_twice(world):
    """A rule of the user's on parked_event: the relay says so, over and over; what came with it goes on, and is not sent anew each time."""
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.a")
    world.db.execute("ALTER TABLE order_aggregator.parked_event ADD CONSTRAINT rule CHECK (routing_key NOT LIKE 'nobody.%')")
    world.db.execute("SELECT order_aggregator.publish_event('nobody.listens', '{}', mandatory => true)")
    assert world.place(50) == 50
    bridge = world.ready_bridge("--roles=http,relay", STUCK_AFTER_S="2")
    wait_until(lambda: bridge.log_path.read_text().count("violates check constraint") >= 3, what="some tries")
    wait_until(lambda: requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 503, what="readiness to tell of it")
    assert world.depth(queue) == 50 and world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 0
    assert world.place(5) == 5
    world.db.execute("ALTER TABLE order_aggregator.parked_event DROP CONSTRAINT rule")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.parked_event") == 1, what="the event to be parked")
    wait_until(world.relayed_all, what="the rest")
    assert world.depth(queue) == 55 and bridge.metric("reconnects_total") == 0
    world.consistent()


def test_the_network_is_cut_inside_a_frame(world):
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    proxy = Proxy(world.env["RABBITMQ_URL"])
    world.ready_bridge(RABBITMQ_URL=proxy.url)
    for round in range(5):
        proxy.cut_after = 10_007 + 911 * round
        assert world.place(200) == 200
        wait_until(lambda: proxy.cuts == round + 1, what="the cut")
    settled(world, 1000, queue)
    proxy.close()


def test_the_checkpoint_waits_for_the_broker(world):
    """Published is not confirmed: while nothing comes back, nothing counts as relayed, also to whoever relays next."""
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.a")
    proxy = Proxy(world.env["RABBITMQ_URL"])
    bridge = world.ready_bridge("--roles=http,relay", RABBITMQ_URL=proxy.url)
    wait_until(lambda: world.value("SELECT published FROM order_aggregator.relay_checkpoint") == 1, what="stock.synced")
    proxy.flows.clear()
    assert world.place(100) == 100
    assert proxy.held.wait(PATIENCE_S), "the relay publishes"
    time.sleep(1)       # time for it to go wrong
    assert world.value("SELECT published FROM order_aggregator.relay_checkpoint") == 1
    bridge.kill()
    assert world.value("SELECT published FROM order_aggregator.relay_checkpoint") == 1
    proxy.close()
    world.ready_bridge("--roles=http,relay")
    world.take_orders(queue, range(1, 101))
    wait_until(lambda: world.value("SELECT published FROM order_aggregator.relay_checkpoint") >= 101, what="the checkpoint")


def test_a_broker_that_reads_nothing_is_broken_off_by_the_watchdog(world):
    proxy = Proxy(world.env["RABBITMQ_URL"])
    queue = world.listen("big")
    bridge = world.ready_bridge(RABBITMQ_URL=proxy.url, BROKER_TIMEOUT_S="2")
    proxy.flows.clear()
    world.db.execute("""SELECT order_aggregator.publish_event('big', to_jsonb(repeat('x', 4000000)), '{}', true) FROM generate_series(1, 12)""")
    wait_until(lambda: bridge.logged("RabbitMQ has taken nothing for 2000 ms"), what="the watchdog")
    proxy.flows.set()
    wait_until(lambda: world.depth(queue) >= 12, what="the events")
    wait_until(lambda: world.value("SELECT low_event_id FROM order_aggregator.relay_checkpoint") == 12, what="the checkpoint")
    assert len({properties.message_id for properties, _, _ in world.take(queue)}) == 12
    proxy.close()


@pytest.mark.parametrize("alarm, calm", [(["set_vm_memory_high_watermark", "absolute", "1MB"], ["set_vm_memory_high_watermark", "0.4"]),
                                         (["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "200MB"])], ids=["memory", "full disk"])
def test_the_broker_s_alarm_stops_nothing_for_good(world, alarm, calm):
    world.stock(a={"x": 2000})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    bridge = world.ready_bridge()
    try:
        world.servers.rabbitmqctl(*alarm)
        for _ in range(20):
            assert world.place(100) == 100      # orders are placed all the same
        wait_until(lambda: bridge.logged("RabbitMQ blocks publishing"), what="the relay to hear of it")
    finally:
        world.servers.rabbitmqctl(*calm)
    settled(world, 2000, queue)


def test_queues_deleted_under_us_are_declared_anew(world):
    world.stock(a={"x": 300})
    queue = world.listen("order.confirmed")
    relay = world.ready_bridge("--roles=http,relay")
    assert world.place(100) == 100
    wait_until(lambda: world.depth("orders.placed") == 100, what="the first events")
    channel = world.channel()
    channel.queue_delete("orders.placed")       # and with it 100 questions: their vendor stays silent
    assert world.place(200) == 200
    wait_until(lambda: relay.logged("they are published again") or relay.logged("no queue 'orders.placed'"), what="the relay to see it, by what comes back or by its next look at the queue")
    wait_until(world.relayed_all, what="all of it to be sent")
    wait_until(lambda: world.depth("orders.placed") == 200, what="the events")
    assert world.value("SELECT count(*) FROM order_aggregator.parked_event") == 0
    world.ready_bridge("--roles=http,replies,housekeeping", ASK_AGAIN_S="1")
    world.reply("{}")
    wait_until(lambda: world.depth("orders.replies.dead") == 1, what="replies to be consumed")
    channel.queue_delete("orders.replies")
    world.vendors()
    wait_until(lambda: world.statuses() == {"confirmed": 300}, what="the lost questions to be asked again")
    wait_until(lambda: world.depth(queue) == 300, what="the events")
    channel.connection.close()
    world.consistent()


def test_a_silent_vendor_is_asked_again_and_each_retry_is_seen(world):
    world.stock(a={"x": 5}, b={"y": 5})
    queue = world.listen("order.placed.*")
    world.vendors("--silent-vendor=a")
    bridge = world.ready_bridge(ASK_AGAIN_S="1")
    order = [{"productId": "x", "quantity": 2}, {"productId": "y", "quantity": 1}]
    world.db.execute("SELECT order_aggregator.place_order('c', %s)", [psycopg.types.json.Jsonb(order)])
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.vendor_retry") >= 2, what="two retries")
    world.programs[0].kill()
    world.vendors()
    wait_until(lambda: world.statuses() == {"confirmed": 1}, what="the vendor to find its voice")
    asked = world.value("SELECT count(*) FROM order_aggregator.vendor_retry")
    assert {"asked again"} < {step["event"] for step in world.value("SELECT history FROM order_aggregator.order_summary")}
    wait_until(lambda: bridge.metric("vendors_asked_again_total") == asked, what="the bridge to count what is committed")
    wait_until(lambda: world.depth(queue) == 2 + asked, what="the events")
    messages = world.take(queue)
    first, *again = [(p, json.loads(body)) for p, body, key in messages if key == "order.placed.a"]
    assert len(again) == asked == len([p for p, _ in again if p.headers["x-again"] == "silent"])
    assert all(body == first[1] for _, body in again) and len({p.message_id for p, _, _ in messages}) == 2 + asked
    world.consistent()


def test_100000_events_wait_at_start_and_memory_stays_flat(world):
    world.stock(a={"x": EVENTS})
    for _ in range(EVENTS // 10000):
        assert world.place(10000) == 10000
    bridge = world.bridge("--roles=http,relay")
    published = lambda: world.value("SELECT coalesce(max(published), 0) FROM order_aggregator.relay_checkpoint")
    wait_until(lambda: published() >= 10000, what="the first of them")
    early = bridge.memory_kb("VmRSS")
    wait_until(world.relayed_all, PATIENCE_S + EVENTS / 1000, "all events")
    if not SANITIZED:
        assert abs(bridge.memory_kb("VmRSS") - early) < 10_000
    assert world.depth("orders.placed") == EVENTS
    world.consistent()


def test_a_foreign_transaction_held_open_neither_stalls_nor_loses(world):
    """It has an id, so every snapshot lists it; among ours one is as old."""
    world.stock(a={"x": 100000})
    queue = world.listen("order.placed.a")
    with psycopg.connect(world.servers.env["DATABASE_URL"]) as foreign, psycopg.connect(world.url) as late:
        foreign.execute("SELECT pg_current_xact_id()")
        world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 99999, \"price\": 1}, {\"id\": \"y\", \"quantity\": 1, \"price\": 1}]')")
        late.execute("SELECT order_aggregator.place_order('late', '[{\"productId\": \"y\", \"quantity\": 1}]')")
        world.ready_bridge()
        until, placed = time.monotonic() + FOREIGN_SECONDS, 0
        while time.monotonic() < until:
            placed += world.place(500)
            wait_until(lambda: world.depth(queue) == placed, what="the events, which are not held up")
        late.commit()
        wait_until(lambda: world.depth(queue) == placed + 1, what="the late one")
    assert len({properties.message_id for properties, _, _ in world.take(queue)}) == placed + 1


def test_a_leader_that_is_replaced_over_its_broker_is_ready_again(world):
    """What it had begun is the other's now: it stands by."""
    world.stock(a={"x": 1000})
    proxy = Proxy(world.env["RABBITMQ_URL"])
    first = world.ready_bridge("--roles=http,relay", RABBITMQ_URL=proxy.url, BROKER_TIMEOUT_S="1", STUCK_AFTER_S="1")
    wait_until(lambda: first.metric("relay_leads") == 1, what="the first to lead")
    second = world.ready_bridge("--roles=http,relay")
    proxy.flows.clear()
    world.place(5)
    wait_until(lambda: second.metric("relay_leads") == 1, what="the second to lead")
    wait_until(world.relayed_all, what="the relay")
    wait_until(lambda: first.metric('role_stuck_seconds{role="relay"}') == 0, what="the first to stand by")
    assert requests.get(f"{first.url}/readyz", timeout=PATIENCE_S).status_code == 200
    proxy.close()


def test_who_stands_by_hears_no_bell(world):
    """libpq keeps each until somebody takes it, and only who leads has to."""
    bridges = [world.ready_bridge("--roles=http,relay") for _ in range(2)]

    def seen(bells):
        world.db.execute("SELECT pg_notify('order_aggregator', n || repeat('x', 1000)) FROM generate_series(1, %s) AS n", [bells])
        asked = """SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order-bridge relay' AND datname = current_database()
                   AND wait_event = 'ClientRead' AND query_start > %s"""
        now = world.value("SELECT clock_timestamp()")
        wait_until(lambda: world.value(asked, now) == 2, what="each to have had an answer since")
    seen(1)
    before = [bridge.memory_kb("VmRSS") for bridge in bridges]
    seen(100_000)
    grown = [bridge.memory_kb("VmRSS") - kb for bridge, kb in zip(bridges, before)]
    assert SANITIZED or max(grown) < 30_000, f"{grown} kB"


def test_a_stopped_leader_is_replaced_and_harms_nothing_when_it_wakes(world):
    world.stock(a={"x": 3000})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    first = world.ready_bridge(RELAY_LEASE_S="3")
    second = world.ready_bridge(RELAY_LEASE_S="3")
    placing = place_in_background(world, 3000)
    wait_until(lambda: world.statuses().get("confirmed", 0) > 100, what="some to be confirmed")
    leader, other = (first, second) if first.logged("leading, epoch") else (second, first)
    leader.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: other.logged("leading, epoch"), what="the other to take over")
    placing.join()
    leader.process.send_signal(signal.SIGCONT)
    settled(world, 3000, queue)
    wait_until(lambda: leader.metric("relay_leads") == 0, what="the one that woke to notice")
    leader.wait_for("/readyz")
    epochs = world.value("SELECT epoch FROM order_aggregator.relay_checkpoint")
    assert epochs == 2, "the one that woke stands by"



# ---- several brokers ----

def nodes_of(world, count=3):
    nodes = [Proxy(world.env["RABBITMQ_URL"]) for _ in range(count)]
    return nodes, ",".join(node.url for node in nodes)


def test_a_broker_that_dies_is_left_for_another(world):
    """Again and again, in the middle of a load; the nodes are ways to the same broker."""
    world.stock(a={"x": 3000})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    nodes, url = nodes_of(world)
    bridge = world.ready_bridge(RABBITMQ_URL=url)
    done = place_in_background(world, 3000, 1)
    kills = 0
    while done.is_alive() or kills < 6:
        kills += 1
        victim = max(nodes, key=Proxy.connections)
        victim.die()
        wait_until(lambda: sum(node.connections() for node in nodes if node is not victim) >= 2, what="relay and replies to be elsewhere")
        wait_until(lambda: requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200, what="readiness")
        victim.revive()
    done.join()
    settled(world, 3000, queue)
    assert bridge.process.poll() is None


def test_a_broker_that_hangs_holds_up_no_other(world):
    """It takes connections and says nothing: those that are new go to another, which the one that failed last is not."""
    world.stock(a={"x": 1000})
    world.vendors()
    nodes, url = nodes_of(world, 2)
    nodes[0].flows.clear()
    bridge = world.ready_bridge(RABBITMQ_URL=url)
    assert world.place(100) == 100
    wait_until(lambda: world.statuses() == {"confirmed": 100}, what="all to be confirmed")
    assert nodes[1].connections() >= 2
    nodes[0].flows.set()
    world.consistent()
    assert bridge.process.poll() is None


def test_all_brokers_away_is_waited_for(world):
    world.stock(a={"x": 1000})
    world.vendors()
    nodes, url = nodes_of(world)
    bridge = world.ready_bridge(RABBITMQ_URL=url)
    for node in nodes:
        node.die()
    assert world.place(50) == 50
    wait_until(lambda: requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 503, what="not to be ready")
    nodes[2].revive()
    wait_until(lambda: world.statuses() == {"confirmed": 50}, what="all to be confirmed")
    world.consistent()


def test_urls_of_several_brokers_are_checked_together(world):
    assert world.command("check-config", RABBITMQ_URL="amqp://a/v, amqps://b/v,amqp://u:p@[::1]/v").returncode == 0
    for url in ("amqp://a,b", "amqp://a/v,amqp://b/w", "amqp://a,amqp://u:S3CRET@b?colour=1"):
        result = world.command("check-config", RABBITMQ_URL=url)
        assert result.returncode == 64 and result.stderr.startswith("RABBITMQ_URL ") and "S3CRET" not in result.stderr, result.stderr


def test_who_waits_asks_the_database_next_to_nothing(world):
    """One relay leads and the other stands by, nobody has anything to do: nothing is asked over and over."""
    world.db.execute(psycopg.sql.SQL("ALTER DATABASE {} SET track_functions = 'all'").format(psycopg.sql.Identifier(world.db.info.dbname)))
    world.ready_bridge()
    world.ready_bridge()

    def calls():
        return time.monotonic(), dict(world.db.execute("SELECT funcname, sum(calls)::int FROM pg_stat_user_functions GROUP BY 1").fetchall())
    wait_until(lambda: "relay_try_lead" in calls()[1], what="the one that stands by")
    began, before = calls()
    wait_until(lambda: calls()[1]["relay_try_lead"] >= before["relay_try_lead"] + 10, what="it to ask ten times more, once a second")
    ended, after = calls()
    often = {name: count - before.get(name, 0) for name, count in after.items() if count - before.get(name, 0) > 25 * (ended - began)}
    assert not often
    world.consistent()
