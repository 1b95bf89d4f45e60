"""A small process between the platform and one server: when the platform goes, however it goes, so does the server.

A program of its own, standard library only, single-threaded. Its only argument is an `Order` as JSON. Standard input is
the lifeline, a pipe whose other end the platform holds: the kernel closes that when the platform ends, however it does.
Standard output is for two lines, "started PID" and "ended CODE"; standard error is the server's log.

The server is told by the kernel (PR_SET_PDEATHSIG, prctl(2)) when this process is killed. The kernel sends that when
the *thread* that started the child ends, which is why there is a process for it and the platform does not start
servers itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TypedDict

_PR_SET_PDEATHSIG = 1


class Order(TypedDict):
    """What to run, and how to end it."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    """The server's working directory."""
    account: list[int] | None
    """User and group id to run as; None is our own."""
    stages: list[tuple[int, float]]
    """Signals, and seconds to wait after each; SIGKILL comes after the last."""
    orphan: int
    """What the kernel sends the server when we are killed. Nobody can insist then, so it has to work the first time."""
    owner: int
    """The platform's process."""
    lock: int
    """An inherited descriptor whose lock the server keeps as long as any process of it lives; gets the server's pid."""


def main(order: Order) -> int:
    """Run the server until it ends or the platform does; the server's exit code, 127 where it could not be run."""
    wake = _signals()
    try:
        server = _start(order)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot run {order['command'][0]}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        _say("ended 127")
        return 127
    os.ftruncate(order["lock"], 0)
    os.pwrite(order["lock"], str(server.pid).encode(), 0)
    os.close(order["lock"])
    _say(f"started {server.pid}")
    _watch(server, wake, order["owner"])
    _stop(server, order["stages"])
    # As a shell has it: a signal's number above 128.
    code = server.returncode if server.returncode >= 0 else 128 - server.returncode
    _say(f"ended {code}")
    return code


def _signals() -> int:
    """A descriptor that gives the number of each signal we are sent."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    # The platform may be gone when we speak.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return wake


def _start(order: Order) -> subprocess.Popen[bytes]:
    guard = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        # After the change of user, which would clear it.
        libc.prctl(_PR_SET_PDEATHSIG, order["orphan"], 0, 0, 0)
        if os.getppid() != guard:  # killed between fork and prctl
            os._exit(1)

    user, group = order["account"] or (None, None)
    return subprocess.Popen(
        order["command"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=order["environment"],
        cwd=order["folder"],
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        umask=0o077,
        # Out of reach of the terminal's Ctrl-C: the platform decides when its servers stop.
        start_new_session=True,
        pass_fds=(order["lock"],),
        preexec_fn=before_exec,
    )


def _watch(server: subprocess.Popen[bytes], wake: int, owner: int) -> None:
    """Return when the server has ended, the platform is gone, or we are told to stop."""
    poll = select.poll()
    for descriptor in (0, wake):
        poll.register(descriptor, select.POLLIN)
    # Where the kernel can: the lifeline alone is not enough, as a child that the platform forked holds its end too.
    with suppress(OSError):
        poll.register(os.pidfd_open(owner), select.POLLIN)
    if os.getppid() != owner:
        return
    while server.poll() is None:
        for descriptor, _ in poll.poll():
            if descriptor == wake:
                if set(os.read(wake, 64)) - {signal.SIGCHLD}:
                    return
            elif descriptor != 0 or not os.read(0, 4096):
                return


def _stop(server: subprocess.Popen[bytes], stages: list[tuple[int, float]]) -> None:
    for number, patience in stages:
        if server.poll() is not None:
            return
        server.send_signal(number)
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            print(f"no end {patience:g} s after {signal.Signals(number).name}", file=sys.stderr, flush=True)  # noqa: T201
    if server.poll() is None:
        server.kill()
        server.wait()


def _say(line: str) -> None:
    # The platform may be gone.
    with suppress(OSError):
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
