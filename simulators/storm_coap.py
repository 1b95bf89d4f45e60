"""A storm's devices by CoAP: RFC 7252 for a whole fleet in columns, a hundred datagrams at a time.

Each device has one exchange at most under way (NSTART 1): a confirmable POST, sent again with doubling pauses, answered
in the acknowledgement or separately. After 5.03 or 4.29 it sleeps for Max-Age at least and begins a new exchange.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulators.coap_message import ACKNOWLEDGEMENT, CONFIRMABLE, EMPTY, RESET, dotted, empty, parse
from simulators.datagrams import Rows
from simulators.nbiot import LEVELS
from simulators.storm import Numbers, Storm, Tally, arrivals, coverage_levels
from simulators.storm_payload import coap_template
from simulators.storm_wheel import Wheel

MAX_RETRANSMIT = 4
_RANDOM_FACTOR = 1.5
RESPONSE_TIMEOUT = 93.0
"""Seconds for a separate response after the empty acknowledgement: MAX_TRANSMIT_WAIT, as the RFC leaves it open."""
LONGEST_PUT_OFF = 10
"""So often a device lets itself be put off; then it gives up until its next report."""
_ROWS = 256
_BLOCK = 256
"""Exchanges in a row that share a source port, so that one system call sends them; a divisor of 65,536."""
_ANSWER_BYTES = 192
_RECEIVE_BUFFER = 8 << 20
_WAITING, _PROMISED, _OVER = range(3)
"""Of an exchange: not answered; acknowledged, its response comes separately; over."""
_PIGGYBACKED = 0x40 | ACKNOWLEDGEMENT << 4 | 4
_CHANGED = 0x44


class CoapFleet:
    """The devices with these numbers, towards one gateway."""

    def __init__(
        self, storm: Storm, numbers: Numbers, address: tuple[str, int], monotonic: Callable[[], float], offset: float
    ) -> None:
        """`offset` is what is added to the monotonic clock to have seconds since 1970."""
        self._storm = storm
        self._monotonic = monotonic
        self._offset = offset
        self._order, self._arrival = arrivals(storm, numbers)
        self._begun = 0
        self._numbers = numbers
        self._place = np.full(int(numbers.max()) + 1, -1, np.int64)
        self._place[numbers] = np.arange(len(numbers))
        count = len(numbers)
        # By device (its place among these).
        self._level = coverage_levels(storm, numbers)
        self._first = np.zeros(count)
        self._put_off = np.zeros(count, np.uint8)
        self._latency = np.full(count, np.nan)
        # By exchange.
        self._exchanges = 0
        self._device = np.zeros(count, np.int64)
        self._state = np.zeros(count, np.uint8)
        self._tries = np.zeros(count, np.uint8)
        self._pause = np.zeros(count)
        self._timers, self._sleepers = Wheel(), Wheel()
        self._random = np.random.default_rng(storm.seed)
        self._mid = int(self._random.integers(1 << 16))
        self._template = coap_template(storm.series)
        self._out, self._in = Rows(_ROWS, len(self._template.row)), Rows(_ROWS, _ANSWER_BYTES)
        self.tally = Tally(count, payload_bytes=self._template.payload_bytes)
        self._under_way = 0
        # A message id of one port means one exchange for EXCHANGE_LIFETIME: with ports for four exchanges a device,
        # none comes again while a gateway may remember it.
        ports = storm.ports or -(-4 * count // (1 << 16))
        self._groups = ports
        self._doors = [_door(address) for _ in range(ports * (MAX_RETRANSMIT + 1 if storm.rebind else 1))]
        self._confirmed: set[tuple[int, int]] = set()

    @property
    def doors(self) -> list[tuple[socket.socket, Callable[[], None]]]:
        """Sockets, and what to call when one can be read."""
        return [(door, lambda number=number: self.receive(number)) for number, door in enumerate(self._doors)]  # type: ignore[misc]

    @property
    def over(self) -> bool:
        """Whether every device has come to its end."""
        return self.tally.finished == self.tally.devices

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return self._under_way == 0

    def close(self) -> None:
        """Close the sockets and hand over the latencies."""
        for door in self._doors:
            door.close()
        self.tally.latencies = self._latency[~np.isnan(self._latency)]

    def work(self, elapsed: float, *, begin: bool) -> float:
        """Do what is due, `elapsed` seconds after the beginning; returns when something is due next.

        Without `begin` no device begins any more, and nothing is sent for the first time.
        """
        due = self._timers.take(elapsed)
        if due is not None:
            self._expire(due, elapsed)
        if not begin:
            return self._timers.next
        woken = self._sleepers.take(elapsed)
        if woken is not None:
            self._post(woken, elapsed)
        room = self._storm.under_way - self._under_way if self._storm.under_way else len(self._order)
        here = min(int(np.searchsorted(self._arrival, elapsed, "right")), self._begun + max(0, room))
        while self._begun < here:
            until = min(here, self._begun + _ROWS)
            places = self._place[self._order[self._begun : until]]
            self._first[places] = self._monotonic()
            self.tally.started += len(places)
            self._begun = until
            self._post(places, elapsed)
        upcoming = float(self._arrival[self._begun]) if self._begun < len(self._order) else float("inf")
        if self._begun < len(self._order) and upcoming <= elapsed:
            upcoming = float("inf")  # an answer makes room
        return min(upcoming, self._timers.next, self._sleepers.next)

    # Out.

    def _post(self, places: Numbers, elapsed: float) -> None:
        """Begin an exchange for each of these devices."""
        count = len(places)
        while self._exchanges + count > len(self._device):
            self._grow()
        fresh = np.arange(self._exchanges, self._exchanges + count)
        self._exchanges += count
        self._device[fresh] = places
        self._pause[fresh] = self._storm.ack_timeout * self._random.uniform(1.0, _RANDOM_FACTOR, count)
        self._under_way += count
        self._transmit(fresh, elapsed)

    def _grow(self) -> None:
        for name in ("_device", "_state", "_tries", "_pause"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))

    def _transmit(self, exchanges: Numbers, elapsed: float) -> None:
        """Send, or send again, and set the timers."""
        places = self._device[exchanges]
        for level, count in enumerate(np.bincount(self._level[places], minlength=LEVELS).tolist()):
            self.tally.transmissions[level] += count
        self._timers.add(exchanges, elapsed + self._pause[exchanges])
        if self._storm.loss:
            lost = self._random.random(len(exchanges)) < self._storm.loss
            self.tally.lost += int(lost.sum())
            exchanges = exchanges[~lost]
        group = self._groups * self._tries[exchanges] if self._storm.rebind else 0
        ports = exchanges // _BLOCK % self._groups + group
        if len(ports) and ports[0] != ports[-1]:
            order = np.argsort(ports, kind="stable")
            exchanges, ports = exchanges[order], ports[order]
        edges = [0, *(np.flatnonzero(np.diff(ports)) + 1).tolist(), len(ports)]
        for start, end in pairwise(edges):
            for at in range(start, end, _ROWS):
                self._send(self._doors[int(ports[at])], exchanges[at : min(at + _ROWS, end)])

    def _send(self, door: socket.socket, exchanges: Numbers) -> None:
        rows = self._out.bytes[: len(exchanges)]
        places = self._device[exchanges]
        self._template.fill(rows, self._numbers[places], np.floor((self._first[places] + self._offset) * 1e3) / 1e3)
        mids = self._mid_of(exchanges)
        rows[:, 2:4] = mids.astype(">u2").view(np.uint8).reshape(-1, 2)
        rows[:, 4:8] = exchanges.astype(">u4").view(np.uint8).reshape(-1, 4)
        self._out.send(door, len(exchanges))

    def _mid_of(self, exchanges: Numbers) -> Numbers:
        return self._mid + exchanges // (_BLOCK * self._groups) * _BLOCK + exchanges % _BLOCK & 0xFFFF

    def _exchange_of(self, port: int, mid: int) -> int | None:
        """The latest exchange with this message id on this port."""
        turn, rest = divmod(mid - self._mid & 0xFFFF, _BLOCK)
        exchange = (turn * self._groups + port % self._groups) * _BLOCK + rest
        cycle = (1 << 16) * self._groups
        if exchange >= self._exchanges:
            return None
        return exchange + (self._exchanges - 1 - exchange) // cycle * cycle

    def _expire(self, due: Numbers, elapsed: float) -> None:
        """Timers that fired: of those that still wait, some are sent again and some have waited enough."""
        due = due[self._state[due] != _OVER]
        promised = self._state[due] == _PROMISED
        spent = ~promised & (self._tries[due] >= MAX_RETRANSMIT)
        # The timer of a promised response was set when it was promised; those of its transmissions mean nothing now.
        hopeless = due[spent | (promised & (self._pause[due] <= elapsed))]
        again = due[~promised & ~spent]
        self._state[hopeless] = _OVER
        self.tally.given_up += len(hopeless)
        self._under_way -= len(hopeless)
        if len(again):
            self._tries[again] += 1
            self._pause[again] *= 2
            self.tally.retransmissions += len(again)
            self._transmit(again, elapsed)

    # In.

    def receive(self, number: int) -> None:
        """Read what one socket has."""
        door, lost = self._doors[number], self._storm.loss
        while True:
            count = self._in.receive(door)
            if count:
                lengths = self._in.lengths(count)
                rows = self._in.bytes[:count]
                heard = np.ones(count, bool)
                if lost:
                    heard = self._random.random(count) >= lost
                    self.tally.lost += count - int(heard.sum())
                plain = heard & (rows[:, 0] == _PIGGYBACKED) & (rows[:, 1] == _CHANGED) & (lengths >= 8)
                tokens = np.ascontiguousarray(rows[plain, 4:8]).view(">u4").reshape(-1).astype(np.int64)
                self._acknowledged(tokens[tokens < self._exchanges])
                for at in np.flatnonzero(heard & ~plain).tolist():
                    self._unusual(number, rows[at, : lengths[at]].tobytes())
            if count < len(self._in):
                return

    def _acknowledged(self, exchanges: NDArray[np.int64]) -> None:
        exchanges = np.unique(exchanges[self._state[exchanges] != _OVER])
        places = self._device[exchanges]
        self._state[exchanges] = _OVER
        self._latency[places] = self._monotonic() - self._first[places]
        self.tally.acknowledged += len(exchanges)
        self._under_way -= len(exchanges)

    def _unusual(self, number: int, datagram: bytes) -> None:
        """Anything but a 2.04 in an acknowledgement."""
        message = parse(datagram)
        if message is None:
            return
        if message.code == EMPTY:
            exchange = self._exchange_of(number, message.mid)
            if exchange is not None and self._state[exchange] == _WAITING:
                self._empty(exchange, message.kind)
            return
        exchange = int.from_bytes(message.token) if len(message.token) == 4 else -1
        ours = 0 <= exchange < self._exchanges and self._state[exchange] != _OVER
        if message.kind == CONFIRMABLE:
            # One that we had already is acknowledged again: our acknowledgement was lost (section 5.2.2).
            known = ours or (number, message.mid) in self._confirmed
            self._doors[number].send(empty(ACKNOWLEDGEMENT if known else RESET, message.mid))
            if ours:
                self._confirmed.add((number, message.mid))
        if ours:
            self._answered(exchange, dotted(message.code), message.max_age)

    def _empty(self, exchange: int, kind: int) -> None:
        if kind == ACKNOWLEDGEMENT:
            self._state[exchange] = _PROMISED
            elapsed = self._monotonic() - self._started
            self._pause[exchange] = elapsed + RESPONSE_TIMEOUT
            self._timers.add(np.array([exchange]), np.array([elapsed + RESPONSE_TIMEOUT]))
        elif kind == RESET:
            self._state[exchange] = _OVER
            self.tally.given_up += 1
            self._under_way -= 1

    def _answered(self, exchange: int, code: str, max_age: int) -> None:
        if code == "2.04":
            self._acknowledged(np.array([exchange]))
            return
        self._state[exchange] = _OVER
        self._under_way -= 1
        if not (code.startswith("5.") or code == "4.29"):
            self.tally.refused[code] += 1
            return
        place = int(self._device[exchange])
        self.tally.later += 1
        self._put_off[place] += 1
        if self._put_off[place] > LONGEST_PUT_OFF:
            self.tally.given_up += 1
            return
        # All that were put off at once would come back at once: a device adds up to half of the time.
        pause = max_age * self._random.uniform(1.0, 1.5)
        due = self._monotonic() - self._started + pause
        self._sleepers.add(np.array([place]), np.array([due]))

    def start(self, at: float) -> None:
        """The storm's beginning on the monotonic clock."""
        self._started = at


def _door(address: tuple[str, int]) -> socket.socket:
    door = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        door.connect(address)
        door.setblocking(False)  # noqa: FBT003 - the library's signature
    except OSError:
        door.close()
        raise
    return door
