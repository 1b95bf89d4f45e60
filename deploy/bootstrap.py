"""Create the virtual environment and install the locked dependencies into it.

Runs on a bare `python3` (standard library only), so that a machine with Python and make needs nothing else. Debian and
Ubuntu split `ensurepip` off into `python3-venv`; where it is missing, pip's own wheel is taken from the distribution's
`python3-pip-whl` package, without root and without installing that package.

A stamp in the environment holds the hash of what was installed: a second run compares it and returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)


def main() -> int:
    """Bring the environment named by `--venv` up to date with the lock file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements-dev.lock")
    args = parser.parse_args()
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"Headworks needs Python {MINIMUM[0]}.{MINIMUM[1]} or newer; this is {found}. "
              "Name a newer one: make PYTHON=/path/to/python3 …", file=sys.stderr)  # fmt: skip
        return 2
    venv: Path = args.venv.absolute()
    stamp = venv / ".headworks-installed"
    wanted = _fingerprint(args.lock)
    if stamp.is_file() and stamp.read_text() == wanted:
        return 0
    python = venv / "bin" / "python"
    try:
        if not python.exists():
            print(f"Creating {venv} …", flush=True)
            _create(venv)
        print("Installing the locked dependencies …", flush=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            pip.append("--root-user-action=ignore")
        subprocess.run([*pip, "--require-hashes", "-r", str(args.lock)], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"The environment could not be set up: {error}\n"
              f"What to do: check the network and the package index pip uses (`{python} -m pip config list`), "
              f"then run the same command again; it continues where it stopped.", file=sys.stderr)  # fmt: skip
        return 1
    stamp.write_text(wanted)
    return 0


def _fingerprint(lock: Path) -> str:
    """What the environment is made from: this Python, the lock, the project's own metadata."""
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    for path in (lock, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _create(venv: Path) -> None:
    """Make an environment with pip in it, with or without `ensurepip`."""
    if importlib.util.find_spec("ensurepip") is not None:
        done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(venv)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _pip_wheel_from_debian(Path(folder))
        environment = os.environ | {"PYTHONPATH": str(wheel)}
        install = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", str(wheel)]
        subprocess.run(install, check=True, env=environment)


def _pip_wheel_from_debian(folder: Path) -> Path:
    """Download `python3-pip-whl` with the machine's own apt configuration and unpack pip's wheel from it."""
    state = folder / "apt"
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "archives" / "partial").mkdir(parents=True)
    options = ["-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state}", "-o", "APT::Sandbox::User="]
    try:
        subprocess.run(["apt-get", *options, "update", "-qq"], check=False, capture_output=True)
        subprocess.run(["apt-get", *options, "download", "-qq", "python3-pip-whl"], check=True, cwd=folder,
                       capture_output=True)  # fmt: skip
        package = next(folder.glob("python3-pip-whl*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "x")], check=True)
        return next((folder / "x").rglob("pip-*.whl"))
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        raise OSError("this Python has no `ensurepip` and pip could not be fetched from the distribution "
                      "(install `python3-venv`, or name a complete Python: make PYTHON=…)") from error  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
