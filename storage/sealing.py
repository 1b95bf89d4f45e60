"""Secrets at rest: sealed with a key that lives outside of the database (AES-256-GCM, RFC 5116).

A sealed secret is bound to the row that it belongs to, so that nobody who can write rows makes one device another.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(ValueError):
    """A secret cannot be opened: it was sealed with another key, or for another place."""


class Seal:
    """Seals and opens with one key of `KEY_BYTES` bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, secret: bytes, place: str) -> bytes:
        """Seal a secret for a place."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """The secret; `SealError` where this is not the key, or not the place, that it was sealed with."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise SealError(
                "a device's secret cannot be opened: it was sealed with another key than that in HEADWORKS_KEY_FILE"
            ) from None
