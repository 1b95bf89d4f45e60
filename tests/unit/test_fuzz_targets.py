"""`make fuzz` is run by hand, so its targets are tried here: each takes the inputs that it begins with."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import Target, targets

TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_target_takes_its_seeds(target: Target) -> None:
    assert target.seeds
    for seed in target.seeds:
        target.run(seed)
