"""Ports for the tests' servers that want a number before they are started."""

from __future__ import annotations

import itertools
import random
import socket

# Below those that the kernel gives away by itself (32768 and up on Linux): no other process's client gets one between
# the look here and the server's start. Each process of the tests goes through them in an order of its own.
_candidates = itertools.cycle(random.SystemRandom().sample(range(20_000, 32_000), 12_000))


def free_port(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that nobody has."""
    for port in itertools.islice(_candidates, 12_000):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
