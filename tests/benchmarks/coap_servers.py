"""Servers to measure against each other, one a process: `python -m tests.benchmarks.coap_servers KIND`.

Prints its port, serves until its input ends. `gateway` is ours, `aiocoap` a `Site` of that library; both take the pack
of 8 records through decode and normalise before they answer. `bare` is a datagram protocol that parses and answers, and
does nothing else; `bare-decoding` does decode and normalise, too, but knows no repeats and has no queue.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import Any, cast

from aiocoap import CHANGED, Context, Message, resource

from devices.model import SECOND, Device, Transport, Uplink
from devices.profile import shipped_profiles
from ingest.coap import CoapGateway
from ingest.coap_message import ACKNOWLEDGEMENT, Plain, parse, response
from ingest.coap_message import CHANGED as CHANGED_CODE
from ingest.outcome import Outcome
from ingest.pipeline import Done
from ingest.translate import translate
from tests.benchmarks.bench_writer import DEVICES
from tests.benchmarks.coap_load import FLEET

RECEIVED = 1_790_000_000 * SECOND
_PROFILES = shipped_profiles()
_BY_MQTT = [Device(f"urn:dev:bench:{n}", "centrifugal-pump") for n in range(DEVICES)]
_REGISTRY = {device.identity: device for device in (*FLEET, *_BY_MQTT)}


def _resolve(identities: Any) -> dict[str, Device]:
    return {identity: _REGISTRY[identity] for identity in identities}


def _uplink(identity: str, payload: bytes, content_format: int | None) -> Uplink:
    return Uplink(Transport.COAP, payload, RECEIVED, identity, content_format, "bench")


def take(uplinks: list[Uplink]) -> list[Outcome]:
    """Through decode and normalise."""
    return translate(uplinks, _resolve, _PROFILES)[1]


class _Pipeline:
    """What the gateway hands over, taken in batches as the pipeline does, without a database behind it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Uplink, Done]] = []

    def submit(self, uplink: Uplink, done: Done) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._work)
        self._waiting.append((uplink, done))

    def _work(self) -> None:
        taken, self._waiting = self._waiting, []
        for (_, done), outcome in zip(taken, take([uplink for uplink, _ in taken]), strict=True):
            done(outcome)


class _Bare(asyncio.DatagramProtocol):
    def __init__(self, *, decoding: bool) -> None:
        self._decoding = decoding

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        message = parse(data)
        assert isinstance(message, Plain)
        if self._decoding:
            take([_uplink(message.path[1], message.payload, message.content_format)])
        self._transport.sendto(response(ACKNOWLEDGEMENT, CHANGED_CODE, message.mid, message.token), address)


class _Resource(resource.Resource, resource.PathCapable):  # type: ignore[misc]
    async def render_post(self, request: Message) -> Message:
        content_format = request.opt.content_format
        take(
            [_uplink(request.opt.uri_path[0], request.payload, None if content_format is None else int(content_format))]
        )
        return Message(code=CHANGED)


async def _serve(kind: str, port: int) -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as `headworks serve` has it
    match kind:
        case "gateway":
            await CoapGateway("127.0.0.1", port, _Pipeline().submit, lambda: RECEIVED).open()
        case "aiocoap":
            site = resource.Site()
            site.add_resource(["telemetry"], _Resource())
            await Context.create_server_context(site, bind=("127.0.0.1", port))
        case "bare" | "bare-decoding":
            door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            door.bind(("127.0.0.1", port))
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Bare(decoding=kind == "bare-decoding"), sock=door
            )
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
