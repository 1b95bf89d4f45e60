"""What the gateways need of the registry's credentials, over one connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from devices.credential import OscoreLease
from headworks.keys import load_seal
from headworks.session import Session
from storage import credentials
from storage.sealing import Seal


class Credentials:
    """The port `ingest.oscore.Contexts`. The key is not touched before a device needs it."""

    def __init__(self, session: Session, key: Path) -> None:
        self._session = session
        self._key = key
        self._seal: Seal | None = None

    def lease(self, device_id: bytes) -> OscoreLease | None:
        """Take a context."""
        if self._seal is None:
            self._seal = load_seal(self._key)
        seal = self._seal
        return self._session.run(lambda connection: credentials.lease_oscore(connection, seal, device_id))

    def versions(self, device_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Which are still good."""
        return self._session.run(lambda connection: credentials.versions(connection, device_ids))

    def give_back(self, windows: Mapping[bytes, tuple[str, int, int]]) -> None:
        """Give replay windows back."""
        self._session.run(lambda connection: credentials.return_windows(connection, windows))
