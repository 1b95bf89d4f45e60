"""A small process between us and a server: when we go, however we go, the server is stopped in order.

Started as a program of its own (standard library only). Its standard input is a pipe whose other end we hold: the kernel
closes that when we end, also by SIGKILL. The server in turn is told by the kernel when this process is killed
(PR_SET_PDEATHSIG), so not even then is anything left running.

Arguments: user id or "-", group id or "-", the orderly stop signal's number, the forceful one's, then the command.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_PATIENCE = 60.0
"""Seconds for an orderly stop: PostgreSQL writes a checkpoint, mosquitto its messages."""
_LAST = 5.0


def main(arguments: list[str]) -> int:
    """Run the command until it ends or our owner does; returns the command's exit code."""
    user, group, gentle, forceful = arguments[:4]
    command = arguments[4:]
    # Ctrl-C in a terminal goes to its whole process group; the owner decides when to stop, not the keyboard.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, wakened = os.pipe()
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)

    owner = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(gentle), 0, 0, 0)
        if os.getppid() != owner:  # we died between fork and prctl
            os._exit(1)

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        user=None if user == "-" else int(user),
        group=None if group == "-" else int(group),
        extra_groups=None if user == "-" else [],
        preexec_fn=die_with_us,
        start_new_session=True,
    )
    while server.poll() is None:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            number = os.read(wake, 1)
            if number == bytes([signal.SIGCHLD]):
                continue
            break
        if not os.read(0, 4096):
            break
    return _stop(server, int(gentle), int(forceful))


def _stop(server: subprocess.Popen[bytes], gentle: int, forceful: int) -> int:
    for number, patience in ((gentle, _PATIENCE), (forceful, _LAST), (signal.SIGKILL, _LAST)):
        if server.poll() is not None:
            break
        server.send_signal(number)
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    code = server.returncode
    return 1 if code is None else code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
