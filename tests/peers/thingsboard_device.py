"""A ThingsBoard device or gateway, by tb-mqtt-client: `thingsboard_device.py PORT TOKEN TIME-MS [DEVICE]`.

With a DEVICE it is a gateway that speaks for it. Runs with the packages of `thingsboard.txt` alone.
"""

from __future__ import annotations

import sys

from tb_device_mqtt import TBDeviceMqttClient, TBPublishInfo
from tb_gateway_mqtt import TBGatewayMqttClient


def published(told: TBPublishInfo) -> bool:
    """Once all of it is acknowledged; the library's own `get` waits for a second and says yes then."""
    for message in told.message_info:
        message.wait_for_publish(60)
    return told.rc() == 0 and all(message.is_published() for message in told.message_info)


def main() -> None:
    port, token, time = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    samples = [{"ts": time + 1000 * i, "values": {"pressure": 4.0 + i / 10}} for i in range(3)]
    if len(sys.argv) > 4:
        gateway = TBGatewayMqttClient("127.0.0.1", port, token)
        gateway.connect()
        published(gateway.gw_connect_device(sys.argv[4]))
        result = gateway.gw_send_telemetry(sys.argv[4], samples)
        client = gateway
    else:
        client = TBDeviceMqttClient("127.0.0.1", port, token)
        client.connect()
        result = client.send_telemetry(samples)
    print("published", published(result), flush=True)
    client.disconnect()
    client.stop()


if __name__ == "__main__":
    main()
