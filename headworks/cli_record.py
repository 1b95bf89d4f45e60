"""`headworks record`: what the gateways receive, byte for byte, into a file that can be sent again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from devices.duration import parse_duration
from devices.errors import UnavailableError
from devices.model import SECOND, Device, Instant, Uplink, moment
from headworks import clock, tap
from headworks.cli_storm import interrupted
from headworks.options import parse_time
from headworks.running import database_url
from headworks.settings import Settings, load_settings
from simulators.rewriting import Rename, masked, pseudonyms, rewrite
from simulators.uplink_recording import Recorder, RecordingError
from storage import quarantine, registry
from storage.database import Connection, connect
from storage.quarantine import Selection

err = Console(highlight=False, stderr=True)

_FRAME_SECONDS = 1.0
_FRAME_UPLINKS = 2_000
_PAGE = 1_000


def record(
    file: Annotated[Path, typer.Argument(help="The recording; one that is there is gone on with", dir_okay=False)],
    for_: Annotated[str | None, typer.Option("--for", help="How long, as 1h; until Ctrl-C if absent")] = None,
    pseudonymise: Annotated[bool, typer.Option("--pseudonymise", help="Keyed hashes in place of names")] = False,  # noqa: FBT002
    key: Annotated[
        Path | None,
        typer.Option(help="File with the key of the hashes, made where absent; one for this time only if not"),
    ] = None,
    from_quarantine: Annotated[bool, typer.Option("--from-quarantine", help="What is in quarantine instead")] = False,  # noqa: FBT002
    since: Annotated[str | None, typer.Option(help="With --from-quarantine: received from this time on (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="With --from-quarantine: received before this time (UTC)")] = None,
) -> None:
    """Record what a running platform's gateways receive; it is never held up, and what is missing is counted."""
    settings = load_settings()
    end: float | None = None
    if for_ is not None:
        try:
            end = time.monotonic() + parse_duration(for_) / SECOND
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--for") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        recorder = Recorder(
            file,
            {"recorded_at": f"{moment(clock.now()):%FT%TZ}", "pseudonyms": pseudonymise},
        )
    except RecordingError as error:
        typer.echo(f"headworks: {error}", err=True)
        raise typer.Exit(2) from None
    taker = _Taker(recorder, _names(key) if pseudonymise else None, lambda wanted: _registered(settings, wanted))
    try:
        if from_quarantine:
            _quarantined(settings, taker, parse_time(since, "--since"), parse_time(until, "--until"))
        else:
            _listen(settings.tap_path, taker, end)
        taker.flush()
    finally:
        recorder.close()
    typer.echo(f"{taker.kept} uplinks in {file}, {recorder.bytes} bytes")
    if taker.unsearched:
        typer.echo(
            f"{taker.unsearched} of them have payloads in which names could not be looked for (frames, what cannot be "
            "decoded): the identity as text is masked there, a number in binary would not be",
            err=True,
        )
    if taker.lost:
        typer.echo(f"headworks: {taker.lost} uplinks are missing in the recording; the platform has them", err=True)
        raise typer.Exit(1)


class _Taker:
    """Gathers uplinks into frames, under other names where wanted, with what the registry says of their devices."""

    def __init__(
        self, recorder: Recorder, rename: Rename | None, find: Callable[[Sequence[str]], list[Device]]
    ) -> None:
        self._recorder = recorder
        self._rename = rename
        self._find = find
        self._waiting: list[Uplink] = []
        self._since = time.monotonic()
        self._described: set[str] = set()
        self._untold = 0
        self.kept = self.lost = self.unsearched = 0

    def take(self, uplinks: Sequence[Uplink], lost: int = 0) -> None:
        """Take some, and know of some that are missing."""
        self._waiting += uplinks
        if lost:
            self._miss(lost, "the recorder was too slow")
        if self._waiting and (len(self._waiting) >= _FRAME_UPLINKS or time.monotonic() - self._since > _FRAME_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; a full disk is told, counted, and tried again with what comes next."""
        taken, self._waiting = self._waiting, []
        self._since = time.monotonic()
        try:
            if self._untold:
                self._recorder.lost(self._untold, "the disk was full")
                self._untold = 0
            if taken:
                self._describe(taken)
                self._recorder.uplinks([self._named(uplink) for uplink in taken])
                self.kept += len(taken)
        except OSError as error:
            err.print(
                f"{len(taken)} uplinks are not recorded: {error}; make room, or end this with Ctrl-C", markup=False
            )
            self.lost += len(taken)
            self._untold += len(taken)

    def _miss(self, count: int, why: str) -> None:
        self.lost += count
        try:
            self._recorder.lost(count, why)
        except OSError:
            self._untold += count

    def _named(self, uplink: Uplink) -> Uplink:
        if self._rename is None:
            return uplink
        rewritten, whole = rewrite(uplink, self._rename)
        self.unsearched += not whole
        if rewritten.transport.value == "coap":
            rewritten = _without_address(rewritten, self._rename)
        return masked(rewritten, uplink)

    def _describe(self, uplinks: Sequence[Uplink]) -> None:
        fresh = {uplink.identity for uplink in uplinks if uplink.identity} - self._described
        if not fresh:
            return
        self._described |= fresh
        devices = self._find(sorted(fresh))
        if self._rename is not None:
            # The nameplate stays, as rules need it; who and where it is does not.
            devices = [
                Device(self._rename(device.identity), device.profile, design=device.design) for device in devices
            ]
        if devices:
            self._recorder.devices(devices)


def _without_address(uplink: Uplink, rename: Rename) -> Uplink:
    return Uplink(
        uplink.transport, uplink.payload, uplink.received_at, uplink.identity, uplink.content_format,
        rename(uplink.source).rpartition("-")[2], uplink.codec, uplink.authenticated,
    )  # fmt: skip


def _listen(path: Path, taker: _Taker, end: float | None) -> None:
    """Until Ctrl-C or the end; a platform that restarts is waited for."""
    with interrupted() as stopped:
        if not path.exists():
            raise UnavailableError(
                f"no platform listens at {path}: start it, or set HEADWORKS_STATE_DIR to its state folder"
            )
        told = time.monotonic()
        listening = False

        def over() -> bool:
            return bool(stopped) or (end is not None and time.monotonic() >= end)

        while not over():
            try:
                for uplinks, lost in tap.listen(path):
                    if not listening:  # whoever reads it may count on what comes from now on
                        err.print("Recording; Ctrl-C ends it.")
                        listening = True
                    taker.take(uplinks, lost)
                    if time.monotonic() - told > 10:
                        told = time.monotonic()
                        err.print(f"{taker.kept} uplinks recorded, {taker.lost} missing")
                    if over():
                        break
                else:
                    err.print("The platform has ended; waiting for it to come back.")
            except OSError:
                pass
            if not over():
                taker.flush()
                time.sleep(0.5)


def _quarantined(settings: Settings, taker: _Taker, since: Instant | None, until: Instant | None) -> None:
    with connect(database_url(settings), application="headworks record") as connection:
        for uplink in _pages(connection, Selection(since=since, until=until)):
            taker.take([uplink])


def _pages(connection: Connection, selection: Selection) -> Iterator[Uplink]:
    """Each uplink once, however many of its records are in quarantine."""
    while found := quarantine.page(connection, selection, _PAGE):
        seen: set[tuple[str, bytes, Instant]] = set()
        for stored in found:
            mark = (stored.uplink.source, stored.uplink.payload, stored.uplink.received_at)
            if mark not in seen:
                seen.add(mark)
                yield stored.uplink
        selection = Selection(since=found[-1].uplink.received_at + 1, until=selection.until)


def _registered(settings: Settings, identities: Sequence[str]) -> list[Device]:
    """What the registry says of these, so that they can be registered where the recording is sent."""
    try:
        with connect(database_url(settings), application="headworks record") as connection:
            return [entry.device for entry in registry.find(connection, identities).values()]
    except UnavailableError:
        return []


def _names(path: Path | None) -> Rename:
    """Pseudonyms by the key in a file, made where it is absent; without a file by a key that nobody keeps."""
    if path is None:
        return pseudonyms(secrets.token_bytes(32))
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n", "utf-8")
    return pseudonyms(path.read_text("utf-8").strip().encode())
