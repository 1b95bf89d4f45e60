"""Debian's packages without root and without installing them: a private apt, unpacked into a prefix of their own.

apt resolves, downloads and verifies (Debian's keyring) with a state of its own, in which nothing is installed; the
packages are unpacked, not installed; `patchelf` points the programs at the prefix's own libc and libraries, so that
they run on a machine whose libc is older. The mirror is the one this machine uses already, or HEADWORKS_APT_MIRROR.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from deploy.problems import NotHereError, ProvisionError, plain_environment, reason, run

SUITE = "trixie"
"""Debian 13: the first with a TimescaleDB package."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NAME = f"services-{SUITE}-4"
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
    # The just-in-time compiler of queries, a third of the download: the server does without when it is not there.
    "libllvm19", "libz3-4", "libedit2",
    # For maintainer scripts and Debian's management of clusters, none of which runs here.
    "adduser", "base-passwd", "debconf", "init-system-helpers", "libc-bin", "libc-l10n", "libio-pty-perl",
    "libipc-run-perl", "libjson-perl", "libpam-modules", "libpam-modules-bin", "libperl5.40", "libsemanage2", "locales",
    "login.defs", "openssl", "openssl-provider-legacy", "passwd", "perl", "perl-base", "perl-modules-5.40",
    "postgresql-client-common", "postgresql-common", "postgresql-common-dev", "procps", "ssl-cert", "sysvinit-utils",
    "ucf",
)  # fmt: skip
"""Packages that apt is told are there, so that it leaves them out. A misspelt one costs download, no more."""

# What is of no use to a server that is started by its path: documentation, translations, build files, bitcode.
_PRUNED = (
    "etc/*", "var", "lib/*/cmake", "lib/*/gconv", "lib/*/pkgconfig", "lib/postgresql/*/lib/bitcode",
    "lib/postgresql/*/lib/pgxs", "lib/systemd", "lib/sysusers.d", "lib/tmpfiles.d", "lib/udev", "usr/games",
    "usr/include", "usr/share/apport", "usr/share/bash-completion", "usr/share/bug", "usr/share/doc", "usr/share/gcc",
    "usr/share/gdb", "usr/share/i18n", "usr/share/libc-bin", "usr/share/lintian", "usr/share/locale", "usr/share/man",
    "usr/share/perl5", "usr/share/postgresql-common", "usr/share/zsh",
)  # fmt: skip

_POSTGRES = "usr/lib/postgresql/17/bin"
_NAMELESS = f"nameless/{_POSTGRES}"
_NSS_WRAPPER = "usr/lib/*/libnss_wrapper.so*"
_MERGED = ("bin", "sbin", "lib", "lib64")

Report = Callable[[str], None]


def fetch(state: Path, staging: Path, target: Path, report: Report) -> dict[str, str]:
    """Build the prefix in `staging` for its later place `target`; returns paths below it and names for people.

    `state` keeps apt's lists and the downloads; it can go once the prefix is in place. Raises `NotHereError` where apt
    or a mirror is out of reach, `ProvisionError` where something is wrong with what they gave.
    """
    apt = _PrivateApt(state)
    patchelf = _patchelf()
    apt.update(mirrors())
    missing = sum(size for _, size in apt.plan(apt.archives))
    if missing:
        report(f"Fetching TimescaleDB, mosquitto, libcoap (about {missing / 1e6:.0f} MB, once) …")
        apt.download(report)
    report(f"Unpacking into {target} …")
    packages = [apt.archives / name for name, _ in apt.plan(state / "none")]
    unpack(packages, staging)
    make_relocatable(staging, target, patchelf)
    versions = dict(map(_version, packages))
    return {
        "postgres_bin": _POSTGRES,
        "edition": "timescaledb-apache",
        "database": f"PostgreSQL {versions['postgresql-17']}, TimescaleDB {versions['postgresql-17-timescaledb']}",
        "broker": f"mosquitto {versions['mosquitto']}",
        "mosquitto": "usr/sbin/mosquitto",
        "mosquitto_pub": "usr/bin/mosquitto_pub",
        "mosquitto_sub": "usr/bin/mosquitto_sub",
        "coap_client": _first(staging, "usr/bin/coap-client-openssl", "usr/bin/coap-client*"),
        "nameless_bin": _NAMELESS,
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
        architecture = run(["dpkg", "--print-architecture"]).strip()
        (folder / "status").write_text("".join(_assumed(name, architecture) for name in ASSUMED), "utf-8")

    def update(self, candidates: Sequence[str]) -> None:
        """Read the suite's index from the first mirror that has it, signed."""
        said = ""
        for mirror in candidates:
            source = f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"
            (self._folder / "sources.list").write_text(source, "utf-8")
            done = self._run("update", "-qq")
            if done.returncode == 0:
                return
            said = done.stderr
        if "NO_PUBKEY" in said or "Missing key" in said:
            raise NotHereError(f"Debian's keys on this machine do not know {SUITE} (update debian-archive-keyring)")
        why = reason(said) if said else "the sources of apt name none"
        raise NotHereError(f"no package mirror gives Debian {SUITE} ({why}; HEADWORKS_APT_MIRROR can name one)")

    def plan(self, archives: Path) -> list[tuple[str, int]]:
        """File name and size in bytes of every package that is wanted and not yet in `archives`."""
        done = self._run("install", "--print-uris", "-qq", "--yes", *PACKAGES, archives=archives)
        if done.returncode:
            raise ProvisionError(
                f"the mirror's packages do not fit together: {reason(done.stderr)}; try again later, or choose a "
                "PostgreSQL without TimescaleDB with HEADWORKS_PROVISION=wheel"
            )
        # 'address' file-name size hash
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("'")]
        return sorted((line[1], int(line[2])) for line in lines)

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
                env=plain_environment(),
            ) as process,
        ):
            os.close(write)
            for percent in quarters(lines):
                report(f"  {percent} %")
            assert process.stderr is not None
            problem = process.stderr.read()
        if process.returncode:
            raise ProvisionError(f"the download broke off: {reason(problem)}; run it again, it goes on from there")

    def _run(self, *arguments: str, archives: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments, archives=archives),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=plain_environment(),
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
            "APT::Update::Error-Mode": "any",
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


def mirrors(release: Path = Path("/etc/os-release")) -> list[str]:
    """HEADWORKS_APT_MIRROR, else those of this machine's apt; `NotHereError` on another distribution than Debian."""
    given = os.environ.get("HEADWORKS_APT_MIRROR")
    if given:
        return [given.rstrip("/")]
    lines = release.read_text("utf-8").replace('"', "").splitlines() if release.exists() else []
    if "ID=debian" not in lines:
        raise NotHereError(
            "this is not Debian, so its mirror is not known here (set HEADWORKS_APT_MIRROR to the address of a Debian "
            "mirror, and install the package debian-archive-keyring)"
        )
    done = subprocess.run(
        ["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=False, env=plain_environment()
    )
    return mirrors_in(done.stdout)


def _assumed(package: str, architecture: str) -> str:
    """One entry of dpkg's status file; newer than any version that something could ask for."""
    return (
        f"Package: {package}\nStatus: install ok installed\nArchitecture: {architecture}\nMulti-Arch: foreign\n"
        "Version: 999:0\nMaintainer: nobody\nDescription: assumed\n\n"
    )


def _version(package: Path) -> tuple[str, str]:
    """A package file's name and upstream version: epoch, Debian's revision and repacking marks left out."""
    found = dict(line.split(": ", 1) for line in run(["dpkg-deb", "-f", package, "Package", "Version"]).splitlines())
    return found["Package"], re.sub(r"^\d+:|[+-].*$", "", found["Version"])


def _first(prefix: Path, *patterns: str) -> str:
    """The first file that the first pattern with any result finds, as a path below `prefix`."""
    for pattern in patterns:
        found = sorted(prefix.glob(pattern))
        if found:
            return str(found[0].relative_to(prefix))
    raise ProvisionError(f"the packages hold no {patterns[-1]}; update Headworks, as the distribution has changed")


def unpack(packages: Iterable[Path], prefix: Path) -> None:
    """Unpack the packages' files below `prefix`, which is empty, and remove what no server needs."""
    # Packages hold files in both /lib and /usr/lib; on a merged system, and here, these are one place.
    for name in _MERGED:
        (prefix / "usr" / name).mkdir(parents=True)
        (prefix / name).symlink_to(f"usr/{name}")
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as contents:
            done = subprocess.run(
                ["tar", "-x", "--no-same-owner", "--no-same-permissions", "--keep-directory-symlink", "-C", prefix],
                stdin=contents.stdout,
                capture_output=True,
                text=True,
                check=False,
                # Whoever the server runs as has to read it, whatever our own umask is.
                umask=0o022,
            )
        if contents.returncode or done.returncode:
            package.unlink()  # fetched anew next time, in case it is damaged
            raise ProvisionError(f"{package.name} could not be unpacked: {reason(done.stderr)}; run it again")
    for pattern in _PRUNED:
        for path in prefix.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_relocatable(prefix: Path, target: Path, patchelf: Path) -> None:
    """Have every program below `prefix` use the loader and the libraries that will be at `target`.

    A program's RPATH, unlike its RUNPATH, holds for the libraries and extensions it loads too (ld.so(8)), so only the
    programs are touched.
    """
    folders = [prefix / "usr/bin", prefix / "usr/sbin", prefix / _POSTGRES]
    programs = [path for folder in folders for path in folder.iterdir() if _is_program(path)]
    loader = run([patchelf, "--print-interpreter", programs[0]]).strip()
    libraries = target / Path(_first(prefix, "usr/lib/*/libc.so.6")).parent
    run([patchelf, "--set-interpreter", f"{target}{loader}", "--force-rpath", "--set-rpath", str(libraries), *programs])
    # initdb and the server it calls insist on a name for the user's id. The wrapper gives one where NSS_WRAPPER_PASSWD
    # says so. It is bound to copies: preloaded by the environment, the system's own shell, which initdb calls, would
    # have to load it too. They find libraries and catalogue by their own place, so that looks like the original's.
    nameless = prefix / _NAMELESS
    nameless.mkdir(parents=True)
    (nameless.parent / "lib").symlink_to(target / _POSTGRES.replace("/bin", "/lib"))
    (prefix / "nameless/usr/share").symlink_to(target / "usr/share")
    for name in ("initdb", "postgres"):
        shutil.copy2(prefix / _POSTGRES / name, nameless / name)
        run([patchelf, "--add-needed", Path(_first(prefix, _NSS_WRAPPER)).name, nameless / name])


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
