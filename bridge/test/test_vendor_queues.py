"""Several vendors over AMQP: a queue for each, and a login that can do no more than answer."""

import json

import pika
import pytest
from conftest import wait_until


def is_there(world, queue):
    channel = world.channel()
    try:
        channel.queue_declare(queue, passive=True)
        channel.connection.close()
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False


@pytest.mark.parametrize("shared", ["is there", "is not there"])
def test_each_vendor_has_a_queue_of_its_own(world, shared):
    world.stock(a={"x": 100}, b={"y": 100}, c={"z": 100})
    own = {vendor: world.listen(f"order.placed.{vendor}") for vendor in "ab"}
    world.ready_bridge("--roles=http,relay").stop()     # binds orders.placed
    if shared == "is not there":
        channel = world.channel()
        for queue in ("orders.placed", "orders.placed.dead"):
            channel.queue_delete(queue)
        channel.connection.close()
    bridge = world.ready_bridge(PLACED_QUEUE="no")
    assert (world.place(10, "x"), world.place(5, "y"), world.place(1, "z")) == (10, 5, 1)
    wait_until(lambda: (world.depth(own["a"]), world.depth(own["b"])) == (10, 5), what="each vendor's questions")
    assert {json.loads(body)["vendorId"] for _, body, _ in world.take(own["b"])} == {"b"}
    # nobody would take them from there
    assert world.depth("orders.placed") == 0 if shared == "is there" else not is_there(world, "orders.placed")
    # a vendor without a queue is nobody's
    wait_until(lambda: world.db.execute("SELECT routing_key, reply_code FROM order_aggregator.unroutable_event").fetchall() == [("order.placed.c", 312)], what="what nobody takes to be kept aside")
    own["c"] = world.listen("order.placed.c")
    assert world.command("redrive", PLACED_QUEUE="no").stdout.startswith("parked events redriven: 1")
    wait_until(lambda: world.depth(own["c"]) == 1, what="what nobody took")
    bridge.stop()
    # how many wait there is not ours to see: whoever is silent is asked again
    world.ready_bridge(PLACED_QUEUE="no", ASK_AGAIN_S="1")
    wait_until(lambda: world.depth(own["a"]) >= 20 and world.depth(own["c"]) >= 2, what="them to be asked again")
    assert is_there(world, "orders.placed") == (shared == "is there")
    world.consistent()


def test_a_vendor_can_do_no_more_than_answer(world):
    world.stock(a={"x": 100}, b={"y": 100})
    own, other = world.listen("order.placed.a"), world.listen("order.placed.b")
    world.ready_bridge(PLACED_QUEUE="no")
    answers, user = f"{world.name}.answers", f"{world.name}.wms"
    channel = world.channel()
    channel.exchange_declare(answers, "fanout", durable=True)
    channel.queue_bind("orders.replies", answers)
    world.db.execute("SELECT order_aggregator.configure_vendor('a', amqp_user => %s)", [user])
    try:
        with world.login(user, f"^{answers}$", f"^{own}$") as connect:
            assert (world.place(1, "x"), world.place(1, "y")) == (1, 1)
            vendor = connect()
            method, _, body = next(vendor.consume(own))
            order = json.loads(body)
            vendor.basic_publish(answers, "", json.dumps({key: order[key] for key in ("orderId", "vendorId", "attempt")} | {"status": "confirmed"}), pika.BasicProperties(user_id=user))
            vendor.basic_ack(method.delivery_tag)
            wait_until(lambda: world.statuses() == {"confirmed": 1, "pending": 1}, what="its answer")
            vendor.connection.close()
            wait_until(lambda: world.depth(other) == 1, what="the other one's question")
            for exchange, key in (("", other), ("", "orders.replies"), ("", "orders.replies.dead"), ("orders", "order.placed.b"), ("amq.topic", "x")):
                vendor = connect()
                vendor.confirm_delivery()
                with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                    vendor.basic_publish(exchange, key, body)
            for queue in (other, "orders.replies", "orders.replies.dead"):
                with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                    connect().basic_get(queue)
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                connect().queue_bind(own, "orders", "order.placed.b")
            assert world.depth(other) == 1
    finally:
        channel.exchange_delete(answers)
        channel.connection.close()
    world.consistent()
