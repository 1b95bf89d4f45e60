"""A Sparkplug edge node with one device, by pysparkplug: `sparkplug_edge.py PORT`, then a command a line on its input.

Runs with the packages of `sparkplug.txt` alone: pysparkplug needs an older paho than Headworks has.
"""

from __future__ import annotations

import sys
import time

from pysparkplug import (
    DataType,
    DData,
    Device,
    EdgeNode,
    Message,
    MessageType,
    Metric,
    QoS,
    Topic,
    get_current_timestamp,
)

GROUP, NODE, DEVICE = "North", "RTU-7", "P-101"
ALIAS = 10


def pressure(value: float, *, named: bool = True) -> Metric:
    return Metric(
        timestamp=get_current_timestamp(),
        name="pressure" if named else None,
        datatype=DataType.DOUBLE,
        value=value,
        alias=ALIAS,
    )


def say(line: str) -> None:
    """A whole line at once: the library's thread speaks too, and print() writes word by word."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    edge = EdgeNode(GROUP, NODE, [], cmd_callback=lambda _, message: say(f"command {message.topic}"))
    edge.register(Device(DEVICE, [pressure(4.0)]))

    def connect() -> None:
        edge.connect("127.0.0.1", port=int(sys.argv[1]))
        while not edge._connected:  # the library does not say so in another way
            time.sleep(0.01)

    connect()
    say("connected")
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "update":
            edge.update_device(DEVICE, [pressure(float(arguments[0]))])
        elif command == "alias":  # as most edge nodes do: a number instead of the name
            topic = Topic(message_type=MessageType.DDATA, group_id=GROUP, edge_node_id=NODE, device_id=DEVICE)
            data = DData(
                timestamp=get_current_timestamp(),
                seq=edge._seq,
                metrics=(pressure(float(arguments[0]), named=False),),
            )
            edge._client.publish(Message(topic=topic, payload=data, qos=QoS.AT_MOST_ONCE, retain=False))
        elif command == "rebirth":  # the library leaves it to its user
            edge.disconnect()
            connect()
        say(f"done {line.strip()}")


if __name__ == "__main__":
    main()
