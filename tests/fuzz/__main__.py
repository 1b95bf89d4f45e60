"""`python -m tests.fuzz [--runs N] [--seconds S] [TARGET …]`: fuzz, and write what was done to build/fuzz.json.

Each target runs in a process of its own under atheris (libFuzzer), which grows the inputs by what new code they reach.
It ends after so many inputs or seconds; a finding ends it at once, and the input is kept beside the corpus. The corpus
under `build/fuzz/` is taken up again by the next run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"


def main() -> int:
    """Run the targets one after the other; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", nargs="*", help="only these (see tests/fuzz/targets.py)")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs a target")
    parser.add_argument("--seconds", type=int, default=600, help="at most this long a target")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: run `make fuzz`, which installs it (Linux, where it has a wheel).")
        return 2
    if args.inside:
        return _inside(args.inside, args.runs, args.seconds)
    from tests.fuzz.targets import targets

    names = [target.name for target in targets()]
    unknown = [name for name in args.target if name not in names]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(names)}")
    results = [_run(name, args.runs, args.seconds) for name in args.target or names]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "fuzz.json").write_text(json.dumps(results, indent=2) + "\n")
    return 1 if any(result["finding"] for result in results) else 0


def _run(name: str, runs: int, seconds: int) -> dict[str, object]:
    """One target in a process of its own."""
    started = time.monotonic()
    command = [
        sys.executable, "-m", "tests.fuzz", "--inside", name, "--runs", str(runs), "--seconds", str(seconds),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    inputs = [int(number) for number in re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)]
    inputs += [int(number) for number in re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)]
    covered = re.findall(r"cov: (\d+)", done.stderr)
    result: dict[str, object] = {
        "target": name, "inputs": max(inputs, default=0), "edges": int(covered[-1]) if covered else 0,
        "seconds": round(time.monotonic() - started, 1), "finding": done.returncode != 0,
    }  # fmt: skip
    print(f"{name:28} {result['inputs']:>10} inputs  {result['edges']:>5} edges  {result['seconds']:>6} s"
          f"  {'FOUND SOMETHING' if done.returncode else 'nothing found'}", flush=True)  # fmt: skip
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
    return result


def _inside(name: str, runs: int, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["devices", "ingest.coap_message"]):
        from tests.fuzz.targets import targets
    target = next(target for target in targets() if target.name == name)
    corpus = BUILD / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds):
        (corpus / f"seed-{index}").write_bytes(seed)
    arguments = [
        name, f"-runs={runs}", f"-max_total_time={seconds}", "-max_len=1024", "-timeout=10", "-rss_limit_mb=1024",
        "-print_final_stats=1", f"-artifact_prefix={BUILD / 'fuzz'}/{name}-", str(corpus),
    ]  # fmt: skip
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
