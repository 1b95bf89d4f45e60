"""Whether the declaration of a frame makes sense, beyond the form of its elements (`frame`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from devices.codecs.frame import (
    Bits,
    Block,
    Check,
    Frame,
    Length,
    Mark,
    Path,
    Read,
    Repeat,
    Switch,
    Time,
    fixed_size,
    inner_layouts,
    least_size,
    values,
)
from devices.document import suggest

MAX_DEPTH = 8
"""How deep blocks, repeats, cases and optional parts may stand in one another."""


def frame_problems(frame: Frame) -> list[tuple[Path, str]]:
    """What is wrong with a frame beyond the form of its elements: names that nothing stands for, parts that could
    repeat for ever. Each with its place inside the frame."""
    return list(_check_layout(frame.layout, ("layout",), _Scope(set(), set()), 1))


class _Scope:
    """What has a name at some place of a frame."""

    def __init__(self, reads: set[str], marks: set[str]) -> None:
        self.reads, self.marks = reads, marks

    def inner(self) -> _Scope:
        """What a part sees that may not be there: its own names end with it."""
        return _Scope(set(self.reads), set(self.marks))


def _check_layout(layout: Sequence[Any], path: Path, scope: _Scope, depth: int) -> Iterator[tuple[Path, str]]:
    if depth > MAX_DEPTH:
        yield path, f"parts stand at most {MAX_DEPTH} deep in one another"
        return
    lengths: set[str] = set()
    for index, element in enumerate(layout):
        here = (*path, index)
        if isinstance(element, Length):
            lengths.add(element.length)
            if not any(isinstance(e, Block) and e.block == element.length for e in layout[index + 1 :]):
                yield (*here, "length"), f"no block ‘{element.length}’ follows in this layout"
        yield from _check_names(element, here, scope)
        match element:
            case Block() if element.block not in lengths:
                yield (*here, "block"), f"no length of ‘{element.block}’ stands before it in this layout"
            case Switch() if element.switch not in scope.reads:
                yield (*here, "switch"), _unknown("read", element.switch, scope.reads)
            case Repeat():
                yield from _check_repeat(element, here, scope)
        for inner, part in inner_layouts(element):
            seen = scope if isinstance(element, Block) else scope.inner()
            yield from _check_layout(part, (*here, *inner), seen, depth + 1)


def _check_names(element: Any, here: Path, scope: _Scope) -> Iterator[tuple[Path, str]]:
    match element:
        case Read():
            scope.reads.add(element.read)
        case Bits():
            yield from _check_bits(element, here, scope)
        case Mark():
            scope.marks.add(element.mark)
        case Check() if element.since is not None and element.since not in scope.marks:
            yield (*here, "since"), _unknown("mark", element.since, scope.marks)


def _check_bits(element: Bits, here: Path, scope: _Scope) -> Iterator[tuple[Path, str]]:
    for number, bit in enumerate(element.fields):
        if bit.at + bit.width > 8 * element.bits:
            yield (
                (*here, "fields", number),
                f"bits {bit.at} to {bit.at + bit.width - 1} are not in {element.bits} bytes",
            )
        if bit.read is not None:
            scope.reads.add(bit.read)


def _check_repeat(element: Repeat, here: Path, scope: _Scope) -> Iterator[tuple[Path, str]]:
    if isinstance(element.repeat, str) and element.repeat != "rest" and element.repeat not in scope.reads:
        yield (*here, "repeat"), _unknown("read", element.repeat, scope.reads | {"rest"})
    if element.times is not None and element.times not in scope.reads:
        yield (*here, "times"), _unknown("read", element.times, scope.reads)
    if least_size(element.layout) == 0:
        yield (*here, "layout"), "what repeats must take at least one byte each time"
    elif element.repeat == "rest" and element.step and any(fixed_size(part) is None for part in element.layout):
        yield (
            (*here, "repeat"),
            "records a ‘step’ apart up to the rest must all have one size: their number is unknown else",
        )
    timed = any(isinstance(part, Time) for part in element.layout)
    if any(values(element.layout)) and (element.step is None) == (not timed):
        yield here, "each record needs its own time: either a ‘step’, or a ‘time’ inside"


def _unknown(kind: str, name: str, known: set[str]) -> str:
    return f"no {kind} ‘{name}’ stands before it{suggest(name, sorted(known))}"
