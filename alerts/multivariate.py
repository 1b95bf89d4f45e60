"""What is usual of several features together: Hotelling's T² and the squared prediction error Q of a principal
component model. Pure.

Features are standardised by the mean and deviation they had in a clean period. T² is their distance in the space of the
components that were kept, each by its own variance (Hotelling 1931); Q is what those components leave over (Jackson and
Mudholkar 1979). Both limits are quantiles of the clean period itself, so that nothing need be normally distributed.
The index is the larger of T² and Q by their limits: above 1 something is unusual. A model is plain data, learnt by
`fit`, and says what it was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from pydantic import Field, model_validator

from devices.document import DocumentModel

MOST_FEATURES = 32
"""Features of one rule, at most."""
LEAST_SAMPLES = 100
"""Samples that a model is learnt from, at the least."""
_BOUND = 1e-6
"""Variance of a standardised component below which there is none."""
_NAMED = 2
"""Features that a message names."""


class Judgement(Protocol):
    """What `unusual()` asks."""

    def index(self, *numbers: float) -> float:
        """How unusual these features are; more than 1 is."""

    def because(self, numbers: Sequence[float]) -> str:
        """Which of them make it so."""


class Period(DocumentModel):
    """One stretch that a model was taught by."""

    device: str
    since: str
    until: str
    samples: int = Field(ge=0)


class Model(DocumentModel):
    """A model as its file holds it. Loadings are by component, in the order of falling variance."""

    features: tuple[str, ...] = Field(min_length=1, max_length=MOST_FEATURES)
    means: tuple[float, ...]
    deviations: tuple[float, ...] = Field(description="Standard deviations, each above 0")
    loadings: tuple[tuple[float, ...], ...] = Field(min_length=1, description="One unit vector for each component kept")
    variances: tuple[float, ...] = Field(description="Of the standardised features along each component")
    t2_limit: float = Field(gt=0)
    q_limit: float | None = Field(default=None, gt=0, description="None where all components were kept")
    quantile: float = Field(gt=0, le=1, description="The share of clean samples that lie within the limits")
    taught: tuple[Period, ...] = Field(min_length=1, description="What it was learnt from")

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        count = len(self.features)
        if not len(self.means) == len(self.deviations) == count or any(len(one) != count for one in self.loadings):
            raise ValueError(f"means, deviations and each loading have {count} numbers, one for each feature")
        if len(self.variances) != len(self.loadings) or min((*self.variances, *self.deviations)) <= 0:
            raise ValueError("there is one variance for each component; variances and deviations are above 0")
        return self

    def index(self, *numbers: float) -> float:
        """The larger of T² and Q, each by its limit."""
        t2, q = self._parts(self._standard(numbers))
        return max(sum(t2) / self.t2_limit, 0.0 if self.q_limit is None else sum(q) / self.q_limit)

    def because(self, numbers: Sequence[float]) -> str:
        """The features with the largest shares in the statistic that calls, each with its standardised value."""
        z = self._standard(numbers)
        t2, q = self._parts(z)
        shares = t2 if self.q_limit is None or sum(t2) / self.t2_limit >= sum(q) / self.q_limit else q
        largest = sorted(range(len(z)), key=lambda place: (-shares[place], place))[:_NAMED]
        return ", ".join(f"{self.features[place]} at {z[place]:+.1f} deviations" for place in largest)

    def _standard(self, numbers: Sequence[float]) -> list[float]:
        return [(x - mean) / width for x, mean, width in zip(numbers, self.means, self.deviations, strict=True)]

    def _parts(self, z: Sequence[float]) -> tuple[list[float], list[float]]:
        """By feature: its partial contribution to T² (they add up to it, single ones may be negative; Alcala and Qin
        2009), and its squared residual."""
        along = [sum(a * b for a, b in zip(loading, z, strict=True)) for loading in self.loadings]
        weights = [score / variance for score, variance in zip(along, self.variances, strict=True)]
        t2, q = [], []
        for place, value in enumerate(z):
            column = [loading[place] for loading in self.loadings]
            t2.append(value * sum(a * b for a, b in zip(column, weights, strict=True)))
            q.append((value - sum(a * b for a, b in zip(column, along, strict=True))) ** 2)
        return t2, q


def fit(
    features: Sequence[str],
    samples: Sequence[Sequence[float]],
    taught: Sequence[Period],
    *,
    explained: float = 1.0,
    quantile: float = 0.99,
) -> Model:
    """Learn a model from samples of a clean period, keeping components for this share of the variance.

    `ValueError` where there are too few samples, or a feature that never changes.
    """
    table = np.array(samples, dtype=np.float64).reshape(len(samples), len(features))
    if len(table) < max(LEAST_SAMPLES, 10 * len(features)):
        raise ValueError(
            f"there are {len(table)} samples in which all features are known; at least"
            f" {max(LEAST_SAMPLES, 10 * len(features))} are needed"
        )
    means, deviations = table.mean(axis=0), table.std(axis=0)
    for name, mean, width in zip(features, means, deviations, strict=True):
        if width <= 1e-12 * max(1.0, abs(mean)):
            raise ValueError(f"‘{name}’ never changes in this period: leave it out, or choose a longer one")
    z = (table - means) / deviations
    variances, vectors = np.linalg.eigh(z.T @ z / len(z))
    order = np.argsort(variances)[::-1]
    variances, vectors = np.maximum(variances[order], 0.0), vectors[:, order]
    shares = np.cumsum(variances) / variances.sum()
    # Features that are exactly bound to each other leave components without variance: these are for Q.
    kept = min(int(np.searchsorted(shares, explained - 1e-9)) + 1, int((variances > _BOUND).sum()))
    along = z @ vectors[:, :kept]
    t2 = (along**2 / variances[:kept]).sum(axis=1)
    left = ((z - along @ vectors[:, :kept].T) ** 2).sum(axis=1)
    return Model(
        features=tuple(features),
        means=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        loadings=tuple(tuple(row) for row in vectors[:, :kept].T.tolist()),
        variances=tuple(variances[:kept].tolist()),
        t2_limit=float(np.quantile(t2, quantile)),
        q_limit=max(float(np.quantile(left, quantile)), _BOUND) if kept < len(features) else None,
        quantile=quantile,
        taught=tuple(taught),
    )
