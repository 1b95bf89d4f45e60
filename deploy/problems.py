"""What can go wrong while services are fetched."""

from __future__ import annotations


class ProvisionError(RuntimeError):
    """The services could not be fetched; the message says what to do."""


class NotHereError(Exception):
    """This way of provisioning does not work on this machine, or not now; the message completes "as …"."""
