"""CoAP over DTLS with pre-shared keys, by libcoap's clients on two libraries that are not ours."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.provision import Installation
from devices.model import SECOND
from ingest import coap_dtls
from ingest.coap_dtls import NoDtlsError, library
from storage.credentials import make_psk
from storage.database import connect
from storage.sealing import Seal
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import T0, pack, query, running
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("DTLSSocket") is None,
    reason="the extra headworks[dtls] is not installed (pip builds it with autoconf, automake, libtool)",
)
SECRET = bytes(range(32))
Send = Callable[..., str]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret.key"
    path.touch(0o600)
    path.write_text(SECRET.hex())
    return path


@pytest.fixture
def psk(registered: str) -> str:
    """The pump's key."""
    with connect(registered) as connection:
        return make_psk(connection, Seal(SECRET), PUMP.identity).decode()


@pytest.fixture
def port(registered: str, broker_url: str, key_file: Path) -> Iterator[int]:
    port = free_port(socket.SOCK_DGRAM)
    with running(registered, broker_url, coaps_port=port, key_file=key_file):
        yield port


@pytest.fixture(params=["openssl", "gnutls"])
def send(request: pytest.FixtureRequest, installation: Installation, tmp_path: Path, port: int) -> Send:
    """Posts by libcoap's client, and says what it printed."""
    if installation.coap_client is None:
        pytest.skip("libcoap's client comes with Debian's packages, and apt is not there")
    client = installation.coap_client.with_name(f"coap-client-{request.param}")

    def run(payload: bytes, key: str, identity: str = PUMP.identity, path: str = f"telemetry/{PUMP.identity}") -> str:
        file = tmp_path / "payload"
        file.write_bytes(payload)
        done = subprocess.run(
            [client, "-m", "post", "-t", "110", "-B", "5", "-u", identity, "-k", key, "-b", "512", "-v", "6",
             "-f", file, f"coaps://127.0.0.1:{port}/{path}"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    return run


def test_a_device_with_its_key_is_heard_and_one_without_is_not(registered: str, psk: str, send: Send) -> None:
    assert "c:2.04" in send(pack(400_000.0), psk)
    assert query(registered, "SELECT value FROM reading") == [(4.0,)]
    assert "c:2.04" not in send(pack(410_000.0, start=1), "0123456789abcdef")
    assert "c:2.04" not in send(pack(410_000.0, start=1), psk, "nobody")
    assert query(registered, "SELECT count(*) FROM reading") == [(1,)]


def test_a_backlog_comes_block_by_block(registered: str, psk: str, send: Send) -> None:
    assert "c:2.04" in send(pack(*map(float, range(500))), psk)
    assert query(registered, "SELECT count(*) FROM reading") == [(500,)]


def test_nobody_speaks_for_another(registered: str, psk: str, send: Send) -> None:
    assert "c:4.03" in send(pack(1.0, device=VALVE.identity), psk, path=f"telemetry/{VALVE.identity}")
    assert query(registered, "SELECT reason, authenticated FROM quarantine") == [("identity_mismatch", PUMP.identity)]


class Client:
    """An association that lasts, by the library's own client side."""

    def __init__(self, port: int, identity: str, key: str) -> None:
        dtls = library()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(60)
        self._answers: list[bytes] = []
        self._name, self._keys = identity.encode(), {identity.encode(): key.encode()}  # the library holds neither
        self._context = dtls.DTLS(
            read=self._on_plain,
            write=lambda _, data: self._socket.send(bytes(data)),
            event=lambda *_: None,
            pskId=self._name,
            pskStore=self._keys,
        )
        self._session = self._context.connect("::1", 1)  # of no meaning: there is one peer
        for _ in range(5):  # cookie; hello, done; change of cipher, finished
            self._listen()

    def _on_plain(self, _: object, data: bytes) -> int:
        self._answers.append(bytes(data))
        return len(data)

    def _listen(self) -> bool:
        try:
            self._context.handleMessage(self._session, self._socket.recv(2000))
        except TimeoutError:
            return False
        return True

    def post(self, mid: int, payload: bytes, patience: float = 60) -> bytes:
        """Post it; the answer, or nothing within so many seconds."""
        self._socket.settimeout(patience)
        head = b"\x40\x02" + mid.to_bytes(2) + b"\xb9telemetry"
        self._context.write(self._session, head + b"\x11\x6e\xff" + payload)
        while not self._answers and self._listen():
            pass
        return self._answers.pop() if self._answers else b""

    def close(self) -> None:
        self._socket.close()


def test_a_new_key_ends_what_was_agreed_with_the_last_one(
    registered: str, broker_url: str, psk: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coap_dtls, "FRESH_SECONDS", 0.0)
    port = free_port(socket.SOCK_DGRAM)
    with running(registered, broker_url, coaps_port=port, key_file=key_file):
        client = Client(port, PUMP.identity, psk)
        try:
            assert client.post(1, pack(400_000.0))[1] == 0x44
            assert client.post(2, pack(400_000.0, start=T0 + SECOND))[1] == 0x44
            with connect(registered) as connection:
                make_psk(connection, Seal(SECRET), PUMP.identity)
            client.post(3, pack(400_000.0, start=T0 + 2 * SECOND), 3)  # finds out; whether it is still heard is open
            assert client.post(4, pack(400_000.0, start=T0 + 3 * SECOND), 3) == b""
        finally:
            client.close()
    assert query(registered, f"SELECT count(*) FROM reading WHERE measured_at = to_timestamp({T0 // SECOND + 3})") == [
        (0,)
    ]


def test_without_the_library_the_error_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "DTLSSocket", None)
    with pytest.raises(NoDtlsError, match=r"headworks\[dtls\]"):
        library()
