"""A network solved by WNTR's own simulator: `wntr_network.py FILE.inp HOURS` prints heads (m) and flows (m³/h) by hour.

Its demands depend on pressure as ours do (full above 15 m), whatever the file says.
"""

from __future__ import annotations

import json
import sys

import wntr


def main() -> None:
    network = wntr.network.WaterNetworkModel(sys.argv[1])
    network.options.hydraulic.demand_model = "PDD"
    network.options.hydraulic.minimum_pressure = 0.0
    network.options.hydraulic.required_pressure = 15.0
    network.options.hydraulic.pressure_exponent = 0.5
    network.options.time.duration = int(sys.argv[2]) * 3600
    network.options.time.hydraulic_timestep = 60
    network.options.time.report_timestep = 3600
    found = wntr.sim.WNTRSimulator(network).run_sim()
    heads = found.node["head"].to_dict("list")
    flows = {link: [3600 * one for one in values] for link, values in found.link["flowrate"].to_dict("list").items()}
    print(json.dumps({"head": heads, "flow": flows}), flush=True)


if __name__ == "__main__":
    main()
