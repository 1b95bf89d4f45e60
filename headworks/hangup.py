"""SIGHUP while a platform starts: it is remembered, and done as soon as there is a platform that can take it.

Without a handler it would end the process. Loaded before everything else, as loading the rooms takes a second or two,
so it imports nothing of ours.
"""

from __future__ import annotations

import signal
import sys

_came = False


def hold() -> None:
    """Remember SIGHUP from now on; where it says that the terminal was closed, end as by Ctrl-C."""
    on_terminal = sys.stdin is not None and sys.stdin.isatty()

    def hung_up(*_: object) -> None:
        global _came
        if on_terminal and not sys.stdin.isatty():
            raise KeyboardInterrupt
        _came = True

    signal.signal(signal.SIGHUP, hung_up)


def came() -> bool:
    """Whether one came since `hold`."""
    return _came
