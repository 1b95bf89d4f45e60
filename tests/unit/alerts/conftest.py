"""The tests of the engine have few samples. Here a function is written for a combination of metrics at its third one,
so that whatever is compared with a definition is judged both ways, the plain and the quick one (`alerts.quick`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alerts import evaluation


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WORTH", 3)
        yield
