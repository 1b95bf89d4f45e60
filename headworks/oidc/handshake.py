"""What ties the provider's answer to the browser that asked: state, nonce and PKCE's verifier, all of one secret.

The secret is in a cookie that no script can read; the rest follows from it and not the other way round. So nothing has
to be kept here between the two requests, and any process of the platform can take the answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Handshake:
    """One log-in under way."""

    secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def state(self) -> str:
        """Goes to the provider and comes back: the answer is to a question of this browser (RFC 6749, 10.12)."""
        return _digest("state\n" + self.secret)

    @property
    def nonce(self) -> str:
        """Stands in the ID token: it was made for this log-in (OpenID Connect Core, 15.5.2)."""
        return _digest("nonce\n" + self.secret)

    @property
    def verifier(self) -> str:
        """Shown with the code: whoever saw the code alone can do nothing with it (RFC 7636)."""
        return _digest("verifier\n" + self.secret)

    @property
    def challenge(self) -> str:
        """What the provider compares the verifier with (S256)."""
        return _digest(self.verifier)

    def answers(self, state: str) -> bool:
        """Whether this is what came back."""
        return hmac.compare_digest(state.encode(), self.state.encode())


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
