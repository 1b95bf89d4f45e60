"""Many datagrams with one system call: `sendmmsg` and `recvmmsg` of Linux over rows of numpy arrays.

Python's own sockets take one call and some objects a datagram; a sender that must never be what is measured cannot
afford that. Nothing here knows what is in the bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_libc = ctypes.CDLL(None, use_errno=True)
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
# struct mmsghdr and struct iovec of 64-bit Linux, see recvmmsg(2) and writev(2).
_HEADER = np.dtype(
    {
        "names": ["iov", "iovlen", "len"],
        "formats": [np.uint64, np.uint64, np.uint32],
        "offsets": [16, 24, 56],
        "itemsize": 64,
    }
)
_VECTOR = np.dtype([("base", np.uint64), ("len", np.uint64)])


class Rows:
    """A block of equally long rows of bytes that the kernel reads from or writes to."""

    def __init__(self, count: int, width: int) -> None:
        self.bytes: Bytes = np.zeros((count, width), np.uint8)
        self._vectors = np.zeros(count, _VECTOR)
        self._headers = np.zeros(count, _HEADER)
        self._vectors["base"] = self.bytes.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(width)
        self._vectors["len"] = width
        self._headers["iov"] = self._vectors.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(16)
        self._headers["iovlen"] = 1
        self._address = self._headers.ctypes.data

    def __len__(self) -> int:
        return len(self.bytes)

    def lengths(self, count: int) -> NDArray[np.uint32]:
        """The bytes that each of the first `count` rows received."""
        found: NDArray[np.uint32] = self._headers["len"][:count]
        return found

    def send(self, door: socket.socket, count: int) -> None:
        """Send the first `count` rows over a connected socket, whole; waits where its buffer is full.

        That nobody listens at the other end (ICMP) is not an error: datagrams get lost. `OSError` for anything else.
        """
        sent = 0
        while sent < count:
            done = _libc.sendmmsg(
                door.fileno(), ctypes.c_void_p(self._address + 64 * sent), count - sent, _MSG_DONTWAIT
            )
            if done > 0:
                sent += done
                continue
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.ENOBUFS):
                select.select([], [door], [], 0.1)
            elif number not in (errno.ECONNREFUSED, errno.EINTR):
                raise OSError(number, os.strerror(number))

    def receive(self, door: socket.socket) -> int:
        """How many datagrams were there; their bytes are in the first rows, cut to the width."""
        for _ in range(8):
            done = _libc.recvmmsg(door.fileno(), ctypes.c_void_p(self._address), len(self), _MSG_DONTWAIT, None)
            if done >= 0:
                return int(done)
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return 0
            if number not in (errno.ECONNREFUSED, errno.EINTR):
                raise OSError(number, os.strerror(number))
        return 0
