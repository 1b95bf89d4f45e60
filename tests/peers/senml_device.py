"""A device that speaks SenML by senml-python and paho: `senml_device.py PORT IDENTITY TIME-S`."""

from __future__ import annotations

import json
import sys

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from senml.senml import SenMLDocument, SenMLMeasurement


def main() -> None:
    port, identity, time = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    base = SenMLMeasurement(name=f"{identity}:", time=time, unit="Pa")
    samples = [SenMLMeasurement(name="pressure", time=i, value=400_000.0 + 10_000 * i) for i in range(3)]
    payload = json.dumps(SenMLDocument(samples, base=base).to_json())
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(f"headworks/{identity}/telemetry", payload, qos=1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    print("published", flush=True)


if __name__ == "__main__":
    main()
