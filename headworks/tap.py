"""The tap: whoever may open a socket in the state folder hears every uplink that the gateways hand to the pipeline.

`headworks record` listens here, in a process of its own: what it does with its disk is no business of the gateways.
Each listener has a bounded queue; what does not fit is counted and told to it. With nobody listening an uplink costs a
look.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog
from prometheus_client import Counter

from devices.model import Uplink
from devices.packed import pack, unpack

log = structlog.get_logger()

LOST = Counter("headworks_tap_lost", "Uplinks that a listener at the tap was too slow for; the platform has them")

QUEUE_BYTES = 32 << 20
_OVERHEAD = 256
"""What an uplink takes beside its payload, about."""
_HEAD = struct.Struct("!II")
"""Uplinks lost since the last frame, and the length of the content."""
_LISTENERS = 4


class Tap:
    """The platform's side. `take` may be called from any thread and never waits."""

    def __init__(self, path: Path, limit: int = QUEUE_BYTES) -> None:
        """`limit` is in bytes of waiting uplinks for each listener."""
        self._path = path
        self._limit = limit
        self._listeners: tuple[_Listener, ...] = ()
        self._door: socket.socket | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Listen; where that is not possible it is said in the log, and the platform runs without."""
        if not self._path.parent.is_dir():
            return
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if _somebody_there(self._path):
                raise OSError("another platform on this state folder has it")
            self._path.unlink(missing_ok=True)
            door.bind(str(self._path))
            self._path.chmod(0o600)
            door.listen(_LISTENERS)
        except OSError as error:
            door.close()
            log.warning("tap.off", path=str(self._path), why=str(error), hint="`headworks record` cannot listen here")
            return
        self._door = door
        threading.Thread(target=self._accept, args=(door,), name="tap", daemon=True).start()

    def close(self) -> None:
        """Let the listeners have what they were promised for a moment, and end."""
        if self._door is None:
            return
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._path.unlink(missing_ok=True)
        for listener in self._listeners:
            listener.close(1.0)

    def take(self, uplink: Uplink) -> None:
        """Let the listeners hear it."""
        for listener in self._listeners:
            listener.put(uplink)

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                peer, _ = door.accept()
            except OSError:
                return
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one.alive)
                if len(self._listeners) >= _LISTENERS:
                    peer.close()
                    continue
                self._listeners += (_Listener(peer, self._limit),)
            log.info("tap.listener", listeners=len(self._listeners))


class _Listener:
    """One listener: a queue, and a thread that writes it to the socket."""

    def __init__(self, peer: socket.socket, limit: int) -> None:
        self._peer = peer
        self._limit = limit
        self._queue: list[Uplink] = []
        self._bytes = self._lost = 0
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="tap listener", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still listens."""
        return self._thread.is_alive()

    def put(self, uplink: Uplink) -> None:
        with self._changed:
            size = len(uplink.payload) + _OVERHEAD
            if self._ending:
                return
            if self._bytes + size > self._limit:
                self._lost += 1
                LOST.inc()
                return
            self._queue.append(uplink)
            self._bytes += size
            self._changed.notify()

    def close(self, timeout: float) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout)
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        try:
            while True:
                with self._changed:
                    while not (self._queue or self._lost or self._ending):
                        self._changed.wait()
                    if not (self._queue or self._lost):
                        return
                    taken, lost, size = self._queue, self._lost, self._bytes
                    self._queue, self._lost = [], 0
                content = pack(taken)
                self._peer.sendall(_HEAD.pack(lost, len(content)) + content)
                with self._changed:
                    # Only now is there room again: what is on its way to a slow listener is held here, too.
                    self._bytes -= size
        except OSError:
            pass  # the listener is gone, and knows
        finally:
            with self._changed:
                self._ending = True
                self._queue = []
            self._peer.close()


def _somebody_there(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def listen(path: Path, tick: float = 0.25) -> Iterator[tuple[list[Uplink], int]]:
    """What a platform's tap says, as (uplinks, how many were lost); nothing of either each `tick` seconds of silence.

    Ends when the platform does; `OSError` where there is none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.connect(str(path))
        door.settimeout(tick)
        inbox = bytearray()
        while True:
            try:
                data = door.recv(1 << 18)
            except TimeoutError:
                yield [], 0
                continue
            if not data:
                return
            inbox += data
            while len(inbox) >= _HEAD.size:
                lost, length = _HEAD.unpack_from(inbox)
                if len(inbox) < _HEAD.size + length:
                    break
                content = bytes(inbox[_HEAD.size : _HEAD.size + length])
                del inbox[: _HEAD.size + length]
                yield unpack(content), lost
