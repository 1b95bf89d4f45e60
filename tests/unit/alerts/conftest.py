"""The tests of the engine have few samples. Here a function is written for every combination of metrics at once, so
that whatever is compared with a definition is judged the quick way (`alerts.quick`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alerts import evaluation


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WORTH", 1)
        yield
