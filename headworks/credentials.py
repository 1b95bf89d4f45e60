"""What the gateways need of the registry's credentials, over one connection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from devices.credential import Grant, Login, OscoreLease
from devices.model import moment
from headworks import clock
from headworks.keys import load_seal
from headworks.session import Session
from storage import credentials
from storage.sealing import Seal


class Credentials:
    """The ports `ingest.oscore.Contexts` and `ingest.mqtt_door.Logins`; the key is not touched before it is needed."""

    def __init__(self, session: Session, key: Path) -> None:
        self._session = session
        self._key = key
        self._seal: Seal | None = None

    def lease(self, device_id: bytes) -> OscoreLease | None:
        """Take a context."""
        seal = self._open_seal()
        return self._session.run(lambda connection: credentials.lease_oscore(connection, seal, device_id))

    def versions(self, device_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Which are still good."""
        return self._session.run(lambda connection: credentials.versions(connection, device_ids))

    def give_back(self, windows: Mapping[bytes, tuple[str, int, int]]) -> None:
        """Give replay windows back."""
        self._session.run(lambda connection: credentials.return_windows(connection, windows))

    def login(self, shown: Login) -> Grant | None:
        """Who that is."""
        now = moment(clock.now())
        return self._session.run(lambda connection: credentials.login(connection, self._open_seal, shown, now))

    def psk(self, name: str) -> tuple[str, bytes] | None:
        """The device and the key behind a PSK identity."""
        return self._session.run(lambda connection: credentials.psk(connection, self._open_seal(), name))

    def still_good(self, grants: Collection[Grant]) -> set[Grant]:
        """Who still is."""
        return self._session.run(lambda connection: credentials.still_good(connection, grants))

    def _open_seal(self) -> Seal:
        if self._seal is None:
            self._seal = load_seal(self._key)
        return self._seal
