"""A Huawei IoTDA device, by its vendor's SDK: `iotda_device.py PORT DEVICE_ID SECRET CA_FILE PRESSURE`.

The SDK is on no package index: HEADWORKS_TEST_IOTDA_SDK names a folder that it was cloned into.
"""

from __future__ import annotations

import sys

from iot_device_sdk_python.client.client_conf import ClientConf
from iot_device_sdk_python.client.connect_auth_info import ConnectAuthInfo
from iot_device_sdk_python.client.request.service_property import ServiceProperty
from iot_device_sdk_python.iot_device import IotDevice


def main() -> None:
    auth = ConnectAuthInfo()
    auth.server_uri = "127.0.0.1"
    auth.port = int(sys.argv[1])
    auth.id = sys.argv[2]
    auth.secret = sys.argv[3]
    auth.iot_cert_path = sys.argv[4]
    device = IotDevice(ClientConf(auth))
    connected = device.connect()
    print("connected", connected, flush=True)
    if connected == 0:
        pump = ServiceProperty()
        pump.service_id = "pump"
        pump.properties = {"pressure": float(sys.argv[5])}
        device.get_client().report_properties([pump])
        print("published", flush=True)
    sys.stdin.readline()  # until the test has seen the reading


if __name__ == "__main__":
    main()
