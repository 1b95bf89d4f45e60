"""Learning a rule's model from a clean period. Pure.

The rule is played over the period's readings by the code that will judge with it later; in place of the model stands
one that keeps what it is asked about. So a model is taught by exactly those samples that it would have judged: what the
rest of the condition excludes (a warm-up, a standstill) plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alerts.engine import judge
from alerts.groups import judge_group
from alerts.multivariate import Model, Period, fit
from alerts.rules import Rule
from alerts.scopes import compose
from devices.model import DAY, Device, Reading, moment
from devices.profile import Profile

_MUCH = 1e9
_NEVER = 10_000 * DAY


class _Asked:
    """Keeps the features that it is asked about. They are always unusual, and no alarm is raised (`_NEVER`), so it
    are asked once at each sample."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, ...]] = []

    def index(self, *numbers: float) -> float:
        self.samples.append(numbers)
        return _MUCH

    def because(self, _: Sequence[float]) -> str:
        return ""


def features_of(
    rule: Rule, devices: Sequence[Device], profiles: Mapping[str, Profile], readings: Iterable[Reading]
) -> list[tuple[float, ...]]:
    """The features at every sample of these devices at which the rule would ask its model; their readings are of one
    stretch, in any order. `ValueError` where the rule is for none of the devices, or lists no features."""
    if not rule.features:
        raise ValueError(f"the rule ‘{rule.rule}’ lists no features: it needs no model")
    asked = _Asked()
    probing = rule.model_copy(update={"model": asked, "on_delay": _NEVER})
    probing.__dict__.pop("parsed", None)  # the copy's condition asks another model
    found = list(readings)
    if rule.group is not None:
        scopes, without = compose([probing], devices, profiles)
        if not scopes:
            reasons = "; ".join(reason for reasons in without.values() for reason in reasons)
            raise ValueError(f"these devices are no group of the rule ‘{rule.rule}’{reasons and f': {reasons}'}")
        for scope in scopes:
            judge_group(scope, found)
        return asked.samples
    fitting = [one for one in devices if one.profile in profiles and rule.fits(one, profiles[one.profile])]
    if not fitting:
        raise ValueError(f"the rule ‘{rule.rule}’ is for none of these devices")
    for device in fitting:
        judge(probing, device, profiles[device.profile], [one for one in found if one.device == device.identity])
    return asked.samples


Stretch = tuple[Sequence[Device], Sequence[Reading]]
"""Devices and their readings over one clean period."""


def learn(
    rule: Rule,
    profiles: Mapping[str, Profile],
    stretches: Iterable[Stretch],
    *,
    explained: float = 1.0,
    quantile: float = 0.99,
) -> Model:
    """The model of a rule, taught by these stretches. `ValueError` where that is not possible."""
    samples: list[tuple[float, ...]] = []
    taught: list[Period] = []
    for devices, readings in stretches:
        found = features_of(rule, devices, profiles, readings)
        times = [reading.measured_at for reading in readings]
        if times:
            names = ", ".join(device.tag or device.identity for device in devices)
            since, until = moment(min(times)).isoformat(), moment(max(times)).isoformat()
            taught.append(Period(device=names, since=since, until=until, samples=len(found)))
        samples += found
    if not taught:
        raise ValueError("there are no readings to learn from")
    return fit(rule.features, samples, taught, explained=explained, quantile=quantile)
