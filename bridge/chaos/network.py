"""The network between the bridges and their servers: may be slow, or cut."""

import asyncio
import contextlib
import random
import threading


class Network:
    """Stands between the bridges and each of some addresses."""

    def __init__(self):
        self.loop, self.mode, self.links, self.listeners = asyncio.new_event_loop(), "well", set(), []
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def through(self, host, port):
        """The port here by which that address is reached."""
        return asyncio.run_coroutine_threadsafe(self.listen(host, port), self.loop).result(10)

    async def listen(self, host, port):
        async def link(reader, writer):
            task = asyncio.current_task()
            self.links.add(task)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                if self.mode != "cut":
                    there_reader, there_writer = await asyncio.open_connection(host, port)
                    pumps = [asyncio.ensure_future(self.pump(reader, there_writer)), asyncio.ensure_future(self.pump(there_reader, writer))]
                    try:
                        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for pump in pumps:
                            pump.cancel()
                        there_writer.transport.abort()
            writer.transport.abort()
            self.links.discard(task)
        listener = await asyncio.start_server(link, "127.0.0.1", 0)
        self.listeners.append(listener)
        return listener.sockets[0].getsockname()[1]

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while self.mode == "silent":        # nothing comes through, and nobody is told
                    await asyncio.sleep(0.05)
                if self.mode == "slow":
                    await asyncio.sleep(random.uniform(0.02, 0.3))
                writer.write(data)
                await writer.drain()

    def turn(self, mode):
        """well, slow, silent, or cut: then all connections end, and none can be made."""
        self.mode = mode
        if mode == "cut":
            self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in list(self.links)])
