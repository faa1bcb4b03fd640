#!/usr/bin/env python3
"""Try every fault at length, and write what happened into docs/reliability.md.

> make faults
> python tests/faults/reliability.py --points 100 --steps 5000

Runs the tests of this folder with more kills than `make test` does, then a long run
that is watched. Writes results/faults.json and the tables of the document.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "reliability.md"
RESULT = ROOT / "results" / "faults.json"


def parse_arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--points", type=int, default=100, help="kills of each kind of process")
    add("--steps", type=int, default=5000, help="steps of the long run")
    return parser.parse_args()


def try_faults(points):
    """Run the tests; a record of each that tries a fault, and whether all passed."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        passed = run_tests("-n2", FAULT_POINTS=str(points), FAULT_RECORD=str(record))
        lines = record.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], passed


def watch_long_run(steps):
    """The long run, on a tiny random Whisper; what was seen, and whether it passed."""
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen"
        passed = run_tests(
            "-k", "nothing_grows", LONG_RUN_STEPS=str(steps), LONG_RUN_RESULT=str(seen)
        )
        return json.loads(seen.read_text(encoding="utf-8")), passed


def run_tests(*arguments, **environment):
    """Run pytest on the tests of faults; whether they passed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/faults", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    return done.returncode == 0


def fault_table(records):
    """One row a fault, in the order of the tests' files."""
    outcomes = {}
    for record in sorted(records, key=lambda record: record["test"]):
        row = tuple(record[name] for name in ("fault", "provoked", "result"))
        outcomes.setdefault(row, []).append(record["outcome"])
    lines = ["| fault | provoked by | what happens | tried |", "|---|---|---|---|"]
    for row, found in outcomes.items():
        kinds = sorted(set(found))
        tried = ", ".join(f"{found.count(kind)} {kind}" for kind in kinds)
        lines.append(f"| {' | '.join(row)} | {tried} |")
    return "\n".join(lines)


def long_run_table(run):
    """What was seen of the long run."""
    rows = {
        "steps": f"{run['steps']:,}",
        "seconds": f"{run['seconds']:,}",
        **{
            f"{what}, early and late": f"{run[f'{key}_early']}, {run[f'{key}_late']}"
            for what, key in (("MB", "megabytes"), ("open files", "open_files"))
        },
        "bytes of log.txt and train_log.txt": f"{run['log_bytes']:,}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def fill(text, name, content):
    """Replace what is between two marks of the document."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = f"{re.escape(marks[0])}.*?{re.escape(marks[1])}"
    replacement = f"{marks[0]}\n{content}\n{marks[1]}"
    filled, number = re.subn(pattern, lambda _: replacement, text, flags=re.DOTALL)
    if number != 1:
        raise SystemExit(f"{DOCUMENT} has no place for the {name}.")
    return filled


def main():
    """The command."""
    arguments = parse_arguments()
    records, passed = try_faults(arguments.points)
    run, flat = watch_long_run(arguments.steps)
    result = {
        "command": f"reliability.py --points {arguments.points} --steps "
        f"{arguments.steps}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        "kills_of_each_kind": arguments.points,
        "long_run": run,
        "faults": sorted(records, key=lambda record: record["test"]),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    text = fill(text, "faults", fault_table(records))
    text = fill(text, "long run", long_run_table(run))
    DOCUMENT.write_text(text, encoding="utf-8")
    print(f"Written: {RESULT} and the tables of {DOCUMENT}")
    if not (passed and flat):
        raise SystemExit("Some faults were not met as promised: see above.")


if __name__ == "__main__":
    main()
