"""The program: `headworks`, and `python -m headworks`."""

from __future__ import annotations

import sys

from headworks import hangup


def main() -> None:
    """Run the command line; a platform has its reload asked for from the first moment on."""
    if sys.argv[1:2] in (["up"], ["serve"]):
        hangup.hold()
    from headworks import cli  # only now: it takes a second or two, in which nothing else would hear a signal

    cli.main()


if __name__ == "__main__":
    main()
