"""OSCORE (RFC 8613) against clients that we did not write: aiocoap's and libcoap's; and what an attacker would try."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import pytest
from aiocoap.numbers import codes
from aiocoap.oscore import FilesystemSecurityContext
from typer.testing import CliRunner

from deploy.provision import Installation
from devices.credential import CredentialKind, OscoreKeys
from devices.model import MINUTE, SECOND
from headworks.cli import app
from headworks.keys import KeyFileError, load_seal
from headworks.service import Doors
from storage import credentials
from storage.database import connect
from storage.sealing import KEY_BYTES, Seal, SealError
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import T0, coap, eventually, pack, printed, query, running
from tests.integration.test_quarantine import as_url

PATH = f"/telemetry/{PUMP.identity}"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "secret.key"
    monkeypatch.setenv("HEADWORKS_KEY_FILE", str(path))
    return path


@pytest.fixture
def keys(registered: str, key: Path) -> OscoreKeys:
    with connect(registered) as connection:
        return credentials.make_oscore(connection, load_seal(key), PUMP.identity)


@pytest.fixture
def platform(registered: str, broker_url: str, keys: OscoreKeys) -> Iterator[Doors]:
    with running(registered, broker_url) as doors:
        yield doors


class Device:
    """aiocoap's client with a context of its own on disk, as a device has it in flash."""

    def __init__(self, keys: OscoreKeys, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        settings = {
            "sender-id_hex": keys.device_id.hex(),
            "recipient-id_hex": keys.server_id.hex(),
            "secret_hex": keys.secret.hex(),
            "salt_hex": keys.salt.hex(),
        }
        (folder / "settings.json").write_text(json.dumps(settings), "utf-8")

    def post(self, doors: Doors, payload: bytes, path: str = PATH, query: str = "") -> aiocoap.Message:
        async def ask() -> aiocoap.Message:
            client = await aiocoap.Context.create_client_context()
            held = FilesystemSecurityContext(str(self.folder))
            client.client_credentials[f"{doors.coap}/*"] = held
            try:
                message = aiocoap.Message(
                    code=aiocoap.POST, uri=doors.coap + path + query, payload=payload, content_format=110
                )
                return await asyncio.wait_for(client.request(message).response, 60)
            finally:
                await client.shutdown()
                client.client_credentials.clear()
                held._destroy()

        return asyncio.run(ask())


@pytest.fixture
def device(keys: OscoreKeys, tmp_path: Path) -> Device:
    return Device(keys, tmp_path / "device")


def count(url: str) -> object:
    return query(url, "SELECT count(*) FROM reading")[0][0]


def test_what_aiocoaps_client_protects_is_stored(platform: Doors, registered: str, device: Device) -> None:
    assert device.post(platform, pack(400_000.0)).code == aiocoap.CHANGED
    assert device.post(platform, pack(410_000.0, start=T0 + SECOND)).code == aiocoap.CHANGED
    assert count(registered) == 2


def test_a_backlog_in_blocks_is_protected_block_by_block(platform: Doors, registered: str, device: Device) -> None:
    values = [400_000.0 + i for i in range(120)]
    assert device.post(platform, pack(*values)).code == aiocoap.CHANGED
    assert query(registered, "SELECT count(*) FROM uplink") == [(1,)]
    assert count(registered) == 120


def test_the_context_names_the_device(platform: Doors, registered: str, device: Device) -> None:
    assert device.post(platform, pack(400_000.0), "/").code == aiocoap.CHANGED
    assert device.post(platform, b'[{"n":"pressure","u":"Pa","v":4e5,"t":%d}]' % (T0 // SECOND + 60), "/").code == (
        aiocoap.CHANGED
    ), "not even the payload has to"
    assert count(registered) == 2


def test_nobody_speaks_for_another_device(platform: Doors, registered: str, device: Device) -> None:
    answer = device.post(platform, pack(1.0, device=VALVE.identity), f"/telemetry/{VALVE.identity}")
    assert answer.code == aiocoap.FORBIDDEN
    assert device.post(platform, pack(1.0, device=VALVE.identity), "/").code == aiocoap.FORBIDDEN
    assert count(registered) == 0
    rows = query(registered, "SELECT reason, authenticated FROM quarantine")
    assert rows == [("identity_mismatch", PUMP.identity)] * 2


def test_a_device_with_a_key_is_not_heard_without_it(platform: Doors, registered: str) -> None:
    assert coap(platform, PATH, pack(400_000.0), 110).code == aiocoap.UNAUTHORIZED
    assert coap(platform, "/", pack(400_000.0), 110).code == aiocoap.UNAUTHORIZED
    assert query(registered, "SELECT DISTINCT reason FROM quarantine") == [("not_authenticated",)]
    assert coap(
        platform, f"/telemetry/{VALVE.identity}", pack(50.0, metric="position", unit="%", device=VALVE.identity), 110
    ).code == (aiocoap.CHANGED), "the site may have devices without keys beside it"


def test_the_time_is_told_under_protection(platform: Doors, device: Device) -> None:
    answer = device.post(platform, pack(400_000.0), query="?now")
    assert answer.opt.content_format == 60


def test_libcoaps_client_is_understood(
    platform: Doors, registered: str, keys: OscoreKeys, installation: Installation, tmp_path: Path
) -> None:
    if installation.coap_client is None:
        pytest.skip("there is no coap-client on this machine")
    conf = tmp_path / "oscore.conf"
    conf.write_text(
        f'master_secret,hex,"{keys.secret.hex()}"\nmaster_salt,hex,"{keys.salt.hex()}"\n'
        f'sender_id,hex,"{keys.device_id.hex()}"\nrecipient_id,hex,"{keys.server_id.hex()}"\n'
        "replay_window,integer,30\naead_alg,integer,10\nhkdf_alg,integer,-10\n",
        "utf-8",
    )
    body = tmp_path / "body"
    body.write_bytes(pack(400_000.0))
    command: list[str | Path] = [
        installation.coap_client,
        "-m",
        "post",
        "-t",
        "110",
        "-f",
        body,
        "-E",
        f"{conf},{tmp_path / 'seq'}",
        "-B",
        "60",
    ]
    done = subprocess.run([*command, platform.coap + PATH], capture_output=True, text=True, timeout=90, check=False)
    assert count(registered) == 1, done.stderr


class Replayer:
    """Records what a device sends, by sitting between, and sends it again."""

    def __init__(self, doors: Doors) -> None:
        self.to = ("127.0.0.1", int(doors.coap.rsplit(":", 1)[1]))
        self.recorded: list[bytes] = []

    def record(self, device: Device, doors: Doors, payload: bytes) -> aiocoap.Message:
        """Let a device send through here."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
        ):
            inside.bind(("127.0.0.1", 0))
            inside.settimeout(0.2)
            outside.settimeout(0.2)
            ended = threading.Event()
            peer: list[tuple[str, int]] = []

            def up() -> None:
                while not ended.is_set():
                    try:
                        datagram, address = inside.recvfrom(2048)
                    except TimeoutError:
                        continue
                    peer[:] = [address]
                    self.recorded.append(datagram)
                    outside.sendto(datagram, self.to)

            def down() -> None:
                while not ended.is_set():
                    try:
                        datagram = outside.recv(2048)
                    except OSError:
                        continue
                    inside.sendto(datagram, peer[0])

            threads = [threading.Thread(target=up), threading.Thread(target=down)]
            outside.bind(("127.0.0.1", 0))
            for thread in threads:
                thread.start()
            port = inside.getsockname()[1]
            try:
                return device.post(Doors(f"coap://127.0.0.1:{port}", doors.mqtt, doors.http), payload)
            finally:
                ended.set()
                for thread in threads:
                    thread.join(5)

    def replay(self, datagram: bytes) -> aiocoap.Message:
        # From another address, with another message id and token: so no memory of messages knows it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(60)
            sock.sendto(datagram[:2] + b"\x7a\x7a" + datagram[4:], self.to)
            while True:
                answer = aiocoap.Message.decode(sock.recv(2048))
                if answer.code != aiocoap.EMPTY:
                    return answer


def test_a_recorded_message_is_not_taken_again(platform: Doors, registered: str, device: Device) -> None:
    attacker = Replayer(platform)
    assert attacker.record(device, platform, pack(400_000.0)).code == aiocoap.CHANGED
    uplinks = query(registered, "SELECT count(*), sum(duplicates) FROM uplink")
    answer = attacker.replay(attacker.recorded[0])
    assert answer.code == codes.UNAUTHORIZED
    changed = bytearray(attacker.recorded[0])
    changed[-1] ^= 1
    assert attacker.replay(bytes(changed)).code in (codes.BAD_REQUEST, codes.UNAUTHORIZED)
    assert query(registered, "SELECT count(*), sum(duplicates) FROM uplink") == uplinks, "it did not get that far"


def test_not_even_after_a_stop_or_a_crash(registered: str, broker_url: str, device: Device) -> None:
    with running(registered, broker_url) as first:
        attacker = Replayer(first)
        assert attacker.record(device, first, pack(400_000.0)).code == aiocoap.CHANGED
    assert query(registered, "SELECT replay IS NOT NULL FROM credential") == [(True,)], "given back in order"
    with running(registered, broker_url) as second:
        attacker.to = ("127.0.0.1", int(second.coap.rsplit(":", 1)[1]))
        assert attacker.replay(attacker.recorded[0]).code == codes.UNAUTHORIZED
        assert device.post(second, pack(410_000.0, start=T0 + SECOND)).code == aiocoap.CHANGED
    with connect(registered) as connection:
        connection.execute("UPDATE credential SET replay = NULL")  # as a crash leaves it
    with running(registered, broker_url) as third:
        attacker.to = ("127.0.0.1", int(third.coap.rsplit(":", 1)[1]))
        challenge = attacker.replay(attacker.recorded[0])
        assert challenge.opt.oscore is not None, "a challenge, which only the device can read"
        assert count(registered) == 2
        # aiocoap's client answers the challenge by itself.
        assert device.post(third, pack(420_000.0, start=T0 + MINUTE)).code == aiocoap.CHANGED
        assert count(registered) == 3
        assert attacker.replay(attacker.recorded[0]).code == codes.UNAUTHORIZED


def test_a_new_secret_voids_the_old_one(
    registered: str, broker_url: str, device: Device, keys: OscoreKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.oscore.FRESH_SECONDS", 0.0)
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    with running(registered, broker_url) as doors:
        assert device.post(doors, pack(400_000.0)).code == aiocoap.CHANGED
        result = CliRunner().invoke(app, ["devices", "rotate", PUMP.identity])
        assert result.exit_code == 0, result.output
        shown = printed(result.output)
        with pytest.raises(aiocoap.error.Error):
            device.post(doors, pack(410_000.0, start=T0 + SECOND))
        new = OscoreKeys(
            PUMP.identity, bytes.fromhex(shown["sender_id"]), bytes.fromhex(shown["recipient_id"]),
            bytes.fromhex(shown["master_secret"]), bytes.fromhex(shown["master_salt"]),
        )  # fmt: skip
        assert new.secret != keys.secret
        again = Device(new, tmp_path / "again")
        assert again.post(doors, pack(420_000.0, start=T0 + MINUTE)).code == aiocoap.CHANGED
        removed = CliRunner().invoke(app, ["devices", "rotate", PUMP.identity, "--remove"])
        assert "has no oscore credential any more" in removed.output
        with pytest.raises(aiocoap.error.Error):
            again.post(doors, pack(430_000.0, start=T0 + 2 * MINUTE))


def test_unknown_keys_and_noise_are_refused_without_a_word(platform: Doors, registered: str, tmp_path: Path) -> None:
    stranger = OscoreKeys("x", b"\x77\x77", b"\x00", b"s" * 16, b"t" * 8)
    with pytest.raises(aiocoap.error.Error):
        Device(stranger, tmp_path / "stranger").post(platform, pack(1.0))
    attacker = Replayer(platform)
    message = aiocoap.Message(code=aiocoap.POST, payload=b"\x00" * 30)
    message.opt.oscore = b"\x09\x01\x01"
    message.mtype, message.mid, message.token = aiocoap.CON, 1, b"ab"
    answer = attacker.replay(message.encode())
    assert (answer.code, answer.payload) == (codes.BAD_REQUEST, b"")
    assert count(registered) == 0


def test_secrets_are_sealed_and_bound_to_their_device(registered: str, key: Path) -> None:
    seal = load_seal(key)
    with connect(registered) as connection:
        keys = credentials.make_oscore(connection, seal, PUMP.identity)
        other = credentials.make_oscore(connection, seal, VALVE.identity)
        (row,) = connection.execute("SELECT string_agg(encode(secret, 'hex'), '') FROM credential").fetchall()
        assert keys.secret.hex() not in str(row)
        assert keys.secret.hex() not in repr(keys)
        assert keys.device_id != other.device_id
        # Whoever can write rows cannot give one device another's secret.
        connection.execute(
            "UPDATE credential c SET secret = o.secret FROM credential o WHERE o.device_id <> c.device_id"
        )
        with pytest.raises(SealError):
            credentials.lease_oscore(connection, seal, keys.device_id)
        assert credentials.remove(connection, VALVE.identity, CredentialKind.OSCORE)
        with pytest.raises(credentials.NoSuchDeviceError, match="devices add"):
            credentials.make_psk(connection, seal, "urn:x:nobody")


def test_the_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret.key"
    sealed = load_seal(path).close(b"secret", "here")
    assert load_seal(path).open(sealed, "here") == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SealError):
        load_seal(path).open(sealed, "there")
    with pytest.raises(SealError, match="HEADWORKS_KEY_FILE"):
        Seal(bytes(KEY_BYTES)).open(sealed, "here")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_seal(path)
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="cannot be used"):
        load_seal(path)


def test_a_lease_gives_numbers_and_the_window_once(registered: str, key: Path) -> None:
    seal = load_seal(key)
    with connect(registered) as connection:
        keys = credentials.make_oscore(connection, seal, PUMP.identity)
        first = credentials.lease_oscore(connection, seal, keys.device_id)
        second = credentials.lease_oscore(connection, seal, keys.device_id)
        assert first is not None
        assert second is not None
        assert (first.window, second.window) == ((0, 0), None)
        assert first.end_number <= second.first_number
        credentials.return_windows(connection, {keys.device_id: (first.version, 7, 2**31 + 1)})
        third = credentials.lease_oscore(connection, seal, keys.device_id)
        assert third is not None
        assert third.window == (7, 2**31 + 1)
        credentials.return_windows(connection, {keys.device_id: ("2001-01-01 00:00:00+00", 9, 1)})
        fourth = credentials.lease_oscore(connection, seal, keys.device_id)
        assert fourth is not None
        assert fourth.window is None, "a window of an older key is nobody's"


def test_two_at_once_share_one_lease(platform: Doors, registered: str, device: Device) -> None:
    eventually(lambda: device.post(platform, pack(400_000.0)).code == aiocoap.CHANGED, "it is stored")
    assert query(registered, "SELECT sequence FROM credential") == [(credentials.NUMBERS,)]
