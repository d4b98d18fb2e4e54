"""Many connections at once: all are answered, however many have something to say in the same moment."""

import selectors
import signal
import socket
import time

import pytest
from conftest import PATIENCE_S, many_files, wait_until
from test_http import BODY, order_head, statuses

ORDER_BYTES = order_head(len(BODY)) + BODY
HEALTH_BYTES = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Crowd:
    """Clients that keep their connections; each has at most one request under way."""

    def __init__(self, bridge, size):
        self.selector = selectors.DefaultSelector()
        self.clients = []
        for _ in range(size):
            client = socket.create_connection(("127.0.0.1", bridge.port))
            client.setblocking(False)
            self.clients.append(client)

    def send(self, data):
        for client in self.clients:
            assert client.send(data) == len(data)
            self.selector.register(client, selectors.EVENT_READ)

    def answers(self):
        """The answer of each, as they come; what has not come in time is missing."""
        answers, until = [], time.monotonic() + PATIENCE_S
        while self.selector.get_map() and time.monotonic() < until:
            for key, _ in self.selector.select(1):
                answers.append(key.fileobj.recv(65536))
                self.selector.unregister(key.fileobj)
        return answers

    def close(self):
        self.selector.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def shop(world):
    world.stock(a={"x": 1000000})
    return world.ready_bridge("--roles=http")


def say_all_at_once(bridge, crowd, data):
    """What all of them say is in the kernel before the bridge looks."""
    bridge.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: open(f"/proc/{bridge.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", what="the bridge to stand still")
    crowd.send(data)
    bridge.process.send_signal(signal.SIGCONT)
    return crowd.answers()


@pytest.mark.parametrize("size", [1, 63, 64, 126, 127, 128, 129, 130, 255, 256, 257, 384, 512])
def test_all_are_answered_however_many_speak_at_once(shop, size):
    """The library hands out 128 events at a time: exactly so many of them once made it sleep over them."""
    crowd = Crowd(shop, size)
    for data, status in ((HEALTH_BYTES, 200), (ORDER_BYTES, 201), (ORDER_BYTES, 201)):
        answers = say_all_at_once(shop, crowd, data)
        assert len(answers) == size, f"{size - len(answers)} of {size} were never answered"
        assert {status for answer in answers for status in statuses(answer)} == {status}
    crowd.close()


def test_idle_connections_hold_up_no_busy_ones(shop):
    with many_files(17000):     # the bridge needs them: a quarter is what one address may have
        idle = Crowd(shop, 4000)
        busy = Crowd(shop, 128)
        for _ in range(20):
            answers = say_all_at_once(shop, busy, ORDER_BYTES)
            assert len(answers) == 128 and {status for answer in answers for status in statuses(answer)} == {201}
        # and those that were idle are served when they speak
        idle.send(HEALTH_BYTES)
        assert len(idle.answers()) == 4000
        idle.close()
        busy.close()
