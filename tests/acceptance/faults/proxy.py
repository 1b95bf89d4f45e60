"""A network that can be cut: TCP and UDP proxies on loopback that stall, reset, drop half-way, delay, lose and repeat.

Each runs in a thread of its own, beside the processes that it stands between, and is told what to do from any thread.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

Target = tuple[str, int] | Path
"""Where to: host and port, or a unix socket."""


class _Threaded:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def _call(self, work: Callable[[], None]) -> None:
        async def run() -> None:
            work()

        self._do(run())

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


class TcpProxy(_Threaded):
    """Between a client and a TCP or unix-socket server."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._refusing = False
        self._halving = False
        self.delay = 0.0
        """Seconds by which every piece of data is late."""
        self.cuts = 0
        self.port = 0
        self._do(self._listen())

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stall(self) -> None:
        """Pass nothing on, in either direction; nobody is told."""
        self._call(self._open.clear)

    def reset(self, *, refuse: bool = False) -> None:
        """End every connection with a RST; with `refuse`, every new one too until `resume`."""

        def work() -> None:
            self._refusing = refuse
            self._abort()

        self._call(work)

    def halve(self) -> None:
        """Pass on half of the next piece of data, in whichever direction it goes, then reset every connection."""

        def work() -> None:
            self._halving = True

        self._call(work)

    def resume(self) -> None:
        """Be a good network again."""

        def work() -> None:
            self._refusing = self._halving = False
            self.delay = 0.0
            self._open.set()

        self._call(work)

    def close(self) -> None:
        """Close everything."""

        async def work() -> None:
            self._server.close()
            self._abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(work())
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _abort(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            self.cuts += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        mine = {writer}
        self._writers.add(writer)
        try:
            if self._refusing:
                self._abort()
                return
            if isinstance(self._target, Path):
                upstream, onward = await asyncio.open_unix_connection(self._target)
            else:
                upstream, onward = await asyncio.open_connection(*self._target)
            mine.add(onward)
            self._writers.add(onward)
            pumps = {asyncio.create_task(self._pump(reader, onward)), asyncio.create_task(self._pump(upstream, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is away: the client sees its connection end
        finally:
            for one in mine:
                self._writers.discard(one)
                one.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._open.wait()
            if self._halving:
                self._halving = False
                writer.write(data[: len(data) // 2])
                await asyncio.sleep(0.01)
                self._abort()
                return
            writer.write(data)
            await writer.drain()


@dataclass
class Radio:
    """What happens to datagrams, each a probability, in both directions."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    """Delayed by up to half a second, so that others overtake."""
    rebound: float = 0.0
    """The device's address changes before this datagram, as behind a NAT whose mapping expired."""


class UdpProxy(_Threaded):
    """Between CoAP devices and a gateway."""

    def __init__(self, target: tuple[str, int], seed: int = 1) -> None:
        super().__init__()
        self._target = target
        self._random = random.Random(seed)
        self._onward: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self.radio = Radio()
        self.passed = 0
        self.dropped = 0
        self.port = 0
        self._do(self._listen())

    async def _listen(self) -> None:
        self._door, _ = await self._loop.create_datagram_endpoint(lambda: _Inward(self), local_addr=("127.0.0.1", 0))
        self.port = int(self._door.get_extra_info("sockname")[1])

    def close(self) -> None:
        """Close everything."""

        def work() -> None:
            self._door.close()
            for transport in self._onward.values():
                transport.close()

        self._call(work)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def come(self, data: bytes, address: tuple[str, int]) -> None:
        """A device's datagram."""
        self._loop.create_task(self._forward(data, address))

    async def _forward(self, data: bytes, address: tuple[str, int]) -> None:
        if self._random.random() < self.radio.rebound and address in self._onward:
            self._onward.pop(address).close()
        if address not in self._onward:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: _Outward(self, address), remote_addr=self._target
            )
            if address in self._onward:
                transport.close()
            else:
                self._onward[address] = transport
        self.through(self._onward[address], data, None)

    def back(self, data: bytes, address: tuple[str, int]) -> None:
        """The gateway's datagram."""
        self.through(self._door, data, address)

    def through(self, transport: asyncio.DatagramTransport, data: bytes, address: tuple[str, int] | None) -> None:
        """Let a datagram pass, or what the radio makes of it."""
        radio, dice = self.radio, self._random.random

        def send() -> None:
            if not transport.is_closing():
                transport.sendto(data, address)

        for _ in range(2 if dice() < radio.repeated else 1):
            if dice() < radio.lost:
                self.dropped += 1
            elif dice() < radio.late:
                self._loop.call_later(self._random.uniform(0, 0.5), send)
            else:
                self.passed += 1
                send()


class _Inward(asyncio.DatagramProtocol):
    def __init__(self, proxy: UdpProxy) -> None:
        self._proxy = proxy

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._proxy.come(data, (addr[0], addr[1]))


class _Outward(asyncio.DatagramProtocol):
    def __init__(self, proxy: UdpProxy, address: tuple[str, int]) -> None:
        self._proxy = proxy
        self._address = address

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._proxy.back(data, self._address)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens just now; the device sends again."""
