"""One attempt to post an announcement to a webhook. When to try, and again, is `alerts.courier`'s business."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
import structlog

from devices.model import SECOND, Instant

log = structlog.get_logger()

TIMEOUT_SECONDS = 10.0
LONGEST_WISH = 3600.0
"""The longest pause in seconds that a receiver may ask for (Retry-After)."""


class Outcome(Enum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    BUSY = "busy"
    """The receiver answered that it cannot now (5xx, 408, 429)."""
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    """It was not taken, and the channel does not tell why."""
    REFUSED = "refused"
    """The receiver will not take it: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of an attempt, why, and the pause in seconds that the receiver asks for."""

    outcome: Outcome
    why: str = ""
    wish: float = 0.0


class Webhook:
    """Posts announcements as JSON to one URL.

    Each carries an `Idempotency-Key`, and with a secret a signature by which the receiver knows that it is from here
    and fresh: `Headworks-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`. Credentials in the URL are
    sent (user and password as HTTP Basic) but never logged, nor are its path and query, which often are secrets too.
    `ValueError` for what is no http or https URL.
    """

    def __init__(
        self, url: str, clock: Callable[[], Instant], secret: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError(_BAD_URL) from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(_BAD_URL)
        port = "" if self._url.port is None else f":{self._url.port}"
        self.receiver = f"{self._url.scheme}://{self._url.host}{port}"
        self._clock = clock
        self._secret = secret
        # httpx writes every request's URL to its own log, credentials and all.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._client = httpx.Client(timeout=timeout)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def send(self, key: str, told: Mapping[str, Any]) -> Attempt:
        """Post it once; never raises."""
        body = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if self._secret is not None:
            headers["Headworks-Signature"] = signature(self._secret, self._clock() // SECOND, body)
        try:
            answer = self._client.post(self._url, content=body, headers=headers)
        except httpx.TransportError as error:
            return Attempt(Outcome.UNREACHABLE, type(error).__name__)
        except Exception as error:
            log.exception("webhook.defect", receiver=self.receiver)
            return Attempt(Outcome.REFUSED, type(error).__name__)
        if answer.is_success:
            return Attempt(Outcome.DELIVERED)
        why = f"it answered {answer.status_code}"
        if answer.is_server_error or answer.status_code in (408, 429):
            wish = answer.headers.get("Retry-After", "")
            return Attempt(Outcome.BUSY, why, min(float(wish), LONGEST_WISH) if wish.isdecimal() else 0.0)
        return Attempt(Outcome.REFUSED, why)


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The signature header's value for a body at a time (Unix seconds)."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


_BAD_URL = "the webhook needs an address such as https://host/path (what was given is not shown: it may hold a secret)"
