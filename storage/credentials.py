"""Credentials of devices: made, leased to the gateway that checks them, and given back by it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from psycopg.errors import UniqueViolation

from devices.codecs import iotda
from devices.credential import (
    CredentialKind,
    Grant,
    Login,
    OscoreKeys,
    OscoreLease,
    mosquitto_hash,
    mosquitto_matches,
    mosquitto_user,
    token_name,
)
from storage.database import Connection, unavailable
from storage.sealing import Seal

SERVER_ID = b"\x00"
"""Our own Sender ID in every context; no device has it, as their numbers begin with 1."""
NUMBERS = 1_000
"""Numbers for answers of its own that a gateway leases at a time; nearly all answers use their request's number."""
_SECRET_BYTES, _SALT_BYTES = 16, 8
_PASSWORD_BYTES = 18


class NoSuchDeviceError(LookupError):
    """No device of that identity is registered."""


def make_oscore(connection: Connection, seal: Seal, identity: str) -> OscoreKeys:
    """A new OSCORE context for a device, in the place of its last one. Its Sender ID is its number, as short as that
    is. `NoSuchDeviceError` if it is not registered."""
    number = _number(connection, identity)
    device_id = number.to_bytes((number.bit_length() + 7) // 8)
    keys = OscoreKeys(
        identity, device_id, SERVER_ID, secrets.token_bytes(_SECRET_BYTES), secrets.token_bytes(_SALT_BYTES)
    )
    secret = json.dumps({"secret": keys.secret.hex(), "salt": keys.salt.hex()}).encode()
    _put(connection, number, CredentialKind.OSCORE, device_id.hex(), seal.close(secret, _place(number, "oscore")))
    return keys


def make_psk(connection: Connection, seal: Seal, identity: str) -> bytes:
    """A new pre-shared key for a device, in the place of its last one; its PSK identity is the device's own.

    Sixteen characters of text (96 random bits): some devices are given their key as text, and small DTLS libraries take
    no longer one.
    """
    number = _number(connection, identity)
    key = secrets.token_urlsafe(12).encode()
    _put(connection, number, CredentialKind.PSK, identity, seal.close(key, _place(number, "psk")))
    return key


def make_mqtt(connection: Connection, identity: str, given: str | None = None) -> tuple[str, str]:
    """A new password at the broker for a device, in the place of its last one: user name and password. Only its salted
    hash is stored, as the broker only compares."""
    number = _number(connection, identity)
    user = mosquitto_user(identity)
    password = given or secrets.token_urlsafe(_PASSWORD_BYTES)
    _put(connection, number, CredentialKind.MQTT, user, mosquitto_hash(password, secrets.token_bytes(12)).encode())
    return user, password


def make_token(connection: Connection, identity: str, given: str | None = None) -> str:
    """A new access token for a device, or the one that it has had elsewhere; only its hash is stored. `ValueError`
    where another device has it."""
    token = given or secrets.token_urlsafe(_PASSWORD_BYTES)
    number = _number(connection, identity)
    try:
        _put(connection, number, CredentialKind.TOKEN, token_name(token), b"")
    except UniqueViolation:
        raise ValueError("another device has this token already") from None
    return token


def make_iotda(connection: Connection, seal: Seal, identity: str, given: str | None = None) -> str:
    """A new secret as Huawei IoTDA's devices have it, or the one that it has had there."""
    number = _number(connection, identity)
    secret = given or secrets.token_hex(_SECRET_BYTES)
    _put(connection, number, CredentialKind.IOTDA, identity, seal.close(secret.encode(), _place(number, "iotda")))
    return secret


def login(connection: Connection, seal: Callable[[], Seal], shown: Login, now: datetime) -> Grant | None:
    """The device that logs in over MQTT with this, by any of the ways that devices have; None if it proves nothing.

    `seal` is asked for only where a secret has to be opened.
    """
    with unavailable():
        rows = connection.execute(
            "SELECT c.kind, c.secret, c.device_id, d.identity, c.made_at::text"
            " FROM credential c JOIN device d USING (device_id)"
            " WHERE d.status = 'active' AND ((c.kind = 'token' AND c.name = %s)"
            " OR (c.kind IN ('mqtt', 'iotda') AND c.name = %s))",
            (token_name(shown.username), shown.username),
        ).fetchall()
    for kind, secret, number, identity, version in rows:
        assert isinstance(secret, bytes)
        if kind == CredentialKind.TOKEN:
            proved = True
        elif kind == CredentialKind.MQTT:
            proved = mosquitto_matches(shown.password, secret.decode())
        else:
            opened = seal().open(secret, _place(int(str(number)), "iotda")).decode()
            proved = iotda.proves(opened, shown.client_id, shown.username, shown.password, now)
        if proved:
            return Grant(str(identity), str(kind), str(version))
    return None


def still_good(connection: Connection, grants: Iterable[Grant]) -> set[Grant]:
    """Those whose credential is still the one, and whose device is still active."""
    with unavailable():
        rows = connection.execute(
            "SELECT d.identity, c.kind, c.made_at::text FROM credential c JOIN device d USING (device_id)"
            " WHERE d.status = 'active' AND d.identity = ANY(%s)",
            ([grant.identity for grant in grants],),
        ).fetchall()
    return {Grant(str(identity), str(kind), str(version)) for identity, kind, version in rows} & set(grants)


def mqtt_users(connection: Connection) -> list[tuple[str, str, str]]:
    """User name, hash and identity of every active device that has a password at the broker."""
    with unavailable():
        rows = connection.execute(
            "SELECT c.name, convert_from(c.secret, 'UTF8'), d.identity"
            " FROM credential c JOIN device d USING (device_id)"
            " WHERE c.kind = 'mqtt' AND d.status = 'active' ORDER BY d.identity"
        ).fetchall()
    return [(str(user), str(hashed), str(identity)) for user, hashed, identity in rows]


def psk(connection: Connection, seal: Seal, name: str) -> tuple[str, bytes] | None:
    """The device and the key behind a PSK identity."""
    with unavailable():
        row = connection.execute(
            "SELECT d.identity, c.device_id, c.secret FROM credential c JOIN device d USING (device_id)"
            " WHERE c.kind = 'psk' AND c.name = %s AND d.status = 'active'",
            (name,),
        ).fetchone()
    if row is None:
        return None
    identity, number, sealed = row
    assert isinstance(sealed, bytes)
    return str(identity), seal.open(sealed, _place(int(str(number)), "psk"))


def lease_oscore(connection: Connection, seal: Seal, device_id: bytes) -> OscoreLease | None:
    """Take the context that a key identifier names; None if there is none, or its device is retired.

    The replay window comes with the first lease after an orderly end, and with no other: whoever crashes with it leaves
    none behind (RFC 8613, appendix B.1.2).
    """
    with unavailable(), connection.transaction():
        row = connection.execute(
            "WITH held AS (SELECT c.device_id, c.replay FROM credential c JOIN device d USING (device_id)"
            "  WHERE c.kind = 'oscore' AND c.name = %s AND d.status = 'active' FOR UPDATE OF c)"
            " UPDATE credential c SET sequence = c.sequence + %s, replay = NULL FROM held, device d"
            " WHERE c.device_id = held.device_id AND c.kind = 'oscore' AND d.device_id = c.device_id"
            " RETURNING c.device_id, d.identity, c.secret, c.made_at::text, c.sequence, held.replay",
            (device_id.hex(), NUMBERS),
        ).fetchone()
    if row is None:
        return None
    number, identity, sealed, version, end, window = row
    assert isinstance(sealed, bytes)
    found = json.loads(seal.open(sealed, _place(int(str(number)), "oscore")))
    keys = OscoreKeys(str(identity), device_id, SERVER_ID, bytes.fromhex(found["secret"]), bytes.fromhex(found["salt"]))
    last = int(str(end))
    replay = (int(window[0]), int(window[1])) if isinstance(window, list) else None
    return OscoreLease(keys, str(version), last - NUMBERS, last, replay)


def versions(connection: Connection, device_ids: Sequence[bytes]) -> dict[bytes, str]:
    """Which of these contexts are still good, with their versions."""
    with unavailable():
        rows = connection.execute(
            "SELECT c.name, c.made_at::text FROM credential c JOIN device d USING (device_id)"
            " WHERE c.kind = 'oscore' AND c.name = ANY(%s) AND d.status = 'active'",
            ([device_id.hex() for device_id in device_ids],),
        ).fetchall()
    return {bytes.fromhex(str(name)): str(version) for name, version in rows}


def return_windows(connection: Connection, windows: Mapping[bytes, tuple[str, int, int]]) -> None:
    """Give replay windows back at an orderly end: version, first number and bits by key identifier."""
    with unavailable(), connection.transaction():
        connection.cursor().executemany(
            "UPDATE credential SET replay = ARRAY[%s, %s]::numeric[]"
            " WHERE kind = 'oscore' AND name = %s AND made_at = %s::timestamptz",
            [(first, bits, device_id.hex(), version) for device_id, (version, first, bits) in windows.items()],
        )


def remove(connection: Connection, identity: str, kind: CredentialKind) -> bool:
    """Take a credential away; False if there was none."""
    with unavailable():
        done = connection.execute(
            "DELETE FROM credential c USING device d"
            " WHERE d.device_id = c.device_id AND d.identity = %s AND c.kind = %s",
            (identity, kind.value),
        )
    return done.rowcount == 1


def _number(connection: Connection, identity: str) -> int:
    with unavailable():
        row = connection.execute("SELECT device_id FROM device WHERE identity = %s", (identity,)).fetchone()
    if row is None:
        raise NoSuchDeviceError(f"{identity!r} is not registered; add it with `headworks devices add`")
    return int(str(row[0]))


def _put(connection: Connection, number: int, kind: CredentialKind, name: str, sealed: bytes) -> None:
    with unavailable():
        # A new OSCORE context has a new key: its numbers and its replay window begin anew.
        connection.execute(
            "INSERT INTO credential (device_id, kind, name, secret, replay) VALUES (%s, %s, %s, %s, '{0,0}')"
            " ON CONFLICT (device_id, kind) DO UPDATE SET (name, secret, made_at, sequence, replay)"
            " = (excluded.name, excluded.secret, clock_timestamp(), 0, '{0,0}')",
            (number, kind.value, name, sealed),
        )


def _place(number: int, kind: str) -> str:
    return f"{kind} of device {number}"
