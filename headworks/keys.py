"""The key that seals devices' secrets: a file that only we can read, made at the first need of it."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from storage.sealing import KEY_BYTES, Seal


class KeyFileError(RuntimeError):
    """The key cannot be used; the text says what to do."""


def load_seal(path: Path) -> Seal:
    """The seal with the key in a file, which is made if there is none. `KeyFileError` where it is not fit for use."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that start at once must not each have a key of its own: whoever links it first has made it.
        if not path.exists():
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(f"the key file {path} can be read by others: chmod 600 {path}")
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"the key file {path} cannot be used ({error}); put back the one that the devices' secrets were sealed"
            " with, or name another with HEADWORKS_KEY_FILE"
        ) from None
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"the key file {path} should hold {KEY_BYTES} bytes in hexadecimal, not {len(key)}")
    return Seal(key)
