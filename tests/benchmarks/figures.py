"""What a benchmark gives: a figure, and what it is to be read beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `beside` is the limit or the peer measured in the same run, in the same unit."""

    name: str
    value: float
    unit: str
    beside: float | None = None
    peer: str = ""

    @property
    def ratio(self) -> float | None:
        """value / beside."""
        return None if not self.beside else self.value / self.beside

    def as_dict(self) -> dict[str, object]:
        """As it stands in bench.json."""
        found: dict[str, object] = {"value": round(self.value, 4), "unit": self.unit}
        if self.beside is not None and self.ratio is not None:
            found |= {"beside": round(self.beside, 4), "peer": self.peer, "ratio": round(self.ratio, 3)}
        return found
