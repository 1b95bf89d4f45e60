"""What a device proves who it is with. Secrets are shown once, when they are made, and are in no log and no `repr`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class CredentialKind(StrEnum):
    """By which door a credential is for."""

    OSCORE = "oscore"
    """CoAP with OSCORE (RFC 8613)."""
    PSK = "psk"
    """CoAP over DTLS with a pre-shared key (RFC 4279)."""
    MQTT = "mqtt"
    """User and password at the broker, or at our own MQTT door."""
    TOKEN = "token"  # noqa: S105 - the kind's name
    """A ThingsBoard access token, at our own MQTT door."""
    IOTDA = "iotda"
    """The secret of a Huawei IoTDA device, at our own MQTT door."""


@dataclass(frozen=True, slots=True)
class OscoreKeys:
    """The inputs from which both sides derive their keys (RFC 8613, section 3.2), with AES-CCM-16-64-128 and HKDF
    SHA-256; `device_id` is the device's Sender ID, `server_id` its Recipient ID."""

    identity: str
    device_id: bytes
    server_id: bytes
    secret: bytes = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OscoreLease:
    """A context as a gateway takes it: from when on its own numbers are free, and the replay window, if it is known."""

    keys: OscoreKeys
    version: str
    """Another one when the credential was made anew."""
    first_number: int
    end_number: int
    """The numbers from `first_number` to before this are this gateway's."""
    window: tuple[int, int] | None
    """First number and bits; None where a crash has lost it, so that the device has to show that it is there now."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a device shows at the MQTT door. `password` is empty where it has none: an access token is a user name."""

    client_id: str
    username: str
    password: str = field(repr=False)


class Grant(NamedTuple):
    """Who has logged in, and by which credential: another `version` when that was made anew."""

    identity: str
    kind: str
    version: str


_IMEI = "urn:dev:imei:"
_ITERATIONS = 20_000
"""Of PBKDF2 for a broker's password. They are random and 144 bits long, so that more would only slow the broker down
when a fleet comes back after an outage; mosquitto's own default is 101."""


def mosquitto_user(identity: str) -> str:
    """The user name of a device at the broker: its IMEI, or its identity without the colons that a password file cannot
    hold."""
    return identity.removeprefix(_IMEI).replace(":", ".")


def mosquitto_hash(password: str, salt: bytes) -> str:
    """A password as mosquitto's password file has it: `$7$iterations$salt$hash`, PBKDF2 with HMAC-SHA-512."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def mosquitto_matches(password: str, hashed: str) -> bool:
    """Whether a password is the one of such a hash; False as well where that is none."""
    try:
        _, kind, iterations, salt, digest = hashed.split("$")
        if kind != "7":
            return False
        found = hashlib.pbkdf2_hmac("sha512", password.encode(), base64.b64decode(salt), int(iterations))
        return hmac.compare_digest(found, base64.b64decode(digest))
    except ValueError:
        return False


def token_name(token: str) -> str:
    """What is kept of an access token: tokens are random and long, so that a plain hash cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()
