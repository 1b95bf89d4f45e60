"""The hydraulics of the shipped sites beside WNTR's own solver, which shares no code with EPANET's."""

from __future__ import annotations

import json

import pytest

from tests.peers.start import peer

pytest.importorskip("epanet", reason="owa-epanet has no wheel for this Python")

from devices.model import HOUR, MINUTE
from simulators.epanet import Network
from simulators.site import load_site


@pytest.mark.parametrize("site", ["pumping-station", "control-skid"])
def test_wntr_comes_to_the_same(site: str) -> None:
    """As the files stand: pumps at full speed, valves at their settings, tanks that fill and empty."""
    path = load_site(site).network
    with peer("wntr", "wntr_network.py", str(path), "4") as process:
        told = json.loads(process.communicate(timeout=100)[0])
    with Network(path, step=MINUTE) as network:
        for minute in range(4 * HOUR // MINUTE + 1):
            now = network.step()
            hour, rest = divmod(minute, 60)
            if rest:
                continue
            for name, heads in told["head"].items():
                assert now.head[network.node[name]] == pytest.approx(heads[hour], abs=0.02), (name, hour)
            for name, flows in told["flow"].items():
                assert now.flow[network.link[name]] == pytest.approx(flows[hour], abs=0.1), (name, hour)
