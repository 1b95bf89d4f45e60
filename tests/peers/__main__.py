"""`python -m tests.peers`: install the packages of each peer into a folder of its own below build/.

`python -m tests.peers large` installs those in `large/`: 430 MB, which few want for one test.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "build" / "peers"


def main() -> int:
    for requirements in sorted(HERE.joinpath(*sys.argv[1:]).glob("*.txt")):
        folder = TARGET / requirements.stem
        stamp = folder / "requirements.txt"
        wanted = requirements.read_text("utf-8")
        if stamp.exists() and stamp.read_text("utf-8") == wanted:
            continue
        print(f"Installing the peer {requirements.stem} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        done = subprocess.run([*pip, "--no-deps", "--target", str(folder), "-r", str(requirements)], check=False)
        if done.returncode:
            return done.returncode
        stamp.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
