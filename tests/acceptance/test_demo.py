"""The demo as a user runs it: it ends by itself, and what it writes is what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from devices.model import instant

# What the plant does follows the time at which its day ends, which is now for a user; here it is always the same.
END = instant(datetime(2026, 11, 30, 0, 3, tzinfo=UTC))
ON_THAT_DAY = """
import sys
from headworks import clock
end = int(sys.argv.pop(1))
clock.now = lambda: end
from headworks.cli import main
main()
"""


def test_the_demo_ends_well_and_writes_its_result(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    state = scratch / "demo-state"
    killed = state / "demo-4194303"  # the highest process number there can be: nobody's
    killed.mkdir(parents=True)
    # The user's own rules and webhook have nothing to do with a simulated plant.
    environment = os.environ | {"HEADWORKS_STATE_DIR": str(state), "HEADWORKS_RULES": "/nowhere"}
    command = ["demo", "--seconds", "15", "--seed", "7", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-c", ON_THAT_DAY, str(END), *command],
        env=environment,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(output.read_text())
    assert report.keys() == {"database", "broker", "readings", "transports", "faults", "alarms", "seconds"}
    assert report["database"].keys() == {"edition", "version"}
    readings, transports = report["readings"], report["transports"]
    assert readings["sent"] == readings["acknowledged"] == readings["stored"] > 200_000
    assert readings["duplicates"] == 0
    for transport in ("coap", "mqtt"):
        assert transports[transport]["sent"] == transports[transport]["acknowledged"] > 0
    assert sum(entry["sent"] for entry in transports.values()) == readings["sent"]
    assert report["faults"]["injected"] == report["faults"]["alarmed"] >= 3
    assert report["alarms"]["raised"] >= report["faults"]["alarmed"]
    assert report["alarms"]["false"] == 0
    assert list(state.iterdir()) == [], "nothing of the demo is left behind"
