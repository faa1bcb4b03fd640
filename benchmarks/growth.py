"""How preparation and feature extraction grow with the data; one process or two.

For each number of rows a Common Voice folder is made (mp3s of 1 to 3 s, tones in
noise, no two alike), prepared, and its encoder states are computed by a tiny
random Whisper, each step in a fresh process whose peak memory is measured. Files
are new, so they are in the operating system's cache. Then the recipe trains on a
small corpus of this kind, in one process and in two with half the batch each.

Nothing is left but the JSON file. Its parts:
  machine            cores, OMP_NUM_THREADS and versions
  growth             for each number of rows: wall and CPU seconds of both steps,
                     also per 1000 rows; peak bytes and start bytes (what the
                     process held before any data); bytes of clips and of features
  growth_exponent    slope of log seconds over log rows: 1 is linear
  memory_growth      peak at the most rows over that at the fewest: 1 is constant
  bytes_per_row      what the peak grows by from the fewest to the most rows
  processes          training in one process and in two: seconds, test WER, losses
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import linear_regression

# Nothing heavy is imported here: Linux counts as a process's peak what it held before
# it became another program, so this process would show in the figures of its steps.

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
STEPS = ("prepare", "extract")
TIMES = [f"{step}_{kind}" for step in STEPS for kind in ("seconds", "cpu_seconds")]
PEAKS = [f"{step}_peak_bytes" for step in STEPS]
PACKAGES = ("speechbrain-sumra", "speechbrain", "torch", "transformers")
PRECISION = "fp32"  # in bf16, sums in another order part the losses by 0.02
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}  # measurements ask no hub


def run_step(step: str, work: Path, **arguments) -> dict:
    """Run a function of ``growth_steps.py`` in a new process.

    Arguments
    ---------
    step : str
        Name of the function.
    work : Path
        A folder for its result.
    **arguments
        Its arguments; paths are passed as strings.

    Returns
    -------
    dict
        What the function returned.
    """
    script, result = BENCHMARKS / "growth_steps.py", work / f"{step}.json"
    command = [sys.executable, script, step, json.dumps(arguments, default=str), result]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    return json.loads(result.read_text(encoding="utf-8"))


def measure_growth(rows: int, whisper: Path, work: Path) -> dict:
    """Prepare a corpus of so many rows and extract its features.

    Arguments
    ---------
    rows : int
        Clips in the training set.
    whisper : Path
        Hugging Face folder of the model that encodes.
    work : Path
        A folder for temporary files, emptied in the end.

    Returns
    -------
    dict
        Seconds, and bytes in memory and on disk.
    """
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        place = Path(temporary)
        corpus, manifests = place / "corpus", place / "manifests"
        found = {
            "rows": rows,
            **run_step("make_corpus", place, folder=corpus, rows=rows),
        }
        shared = {"folder": corpus, "manifests": manifests, "rows": rows}
        own = {"whisper": whisper, "features": place / "features"}
        for step, arguments in (("prepare", shared), ("extract", {**shared, **own})):
            figures = run_step(step, place, **arguments)
            found |= {f"{step}_{name}": value for name, value in figures.items()}
    found["feature_bytes"] = found.pop("extract_feature_bytes")
    for name in TIMES:
        found[f"{name}_per_1000_rows"] = found[name] * 1000 / rows
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}


def summarize_growth(growth: list[dict]) -> dict:
    """Exponents of time and growth of memory over the numbers of rows.

    Example
    -------
    >>> growth = [{"rows": n, **dict.fromkeys(TIMES, n / 9)} for n in (10, 100)]
    >>> for found in growth:
    ...     found.update(dict.fromkeys(PEAKS, 1000 + found["rows"]))
    >>> summary = summarize_growth(growth)
    >>> summary["growth_exponent"]["prepare_seconds"]
    1.0
    >>> summary["bytes_per_row"]["prepare_peak_bytes"]
    1
    """
    logs = [math.log(found["rows"]) for found in growth]
    fewest, *_, most = sorted(growth, key=lambda found: found["rows"])
    more = most["rows"] - fewest["rows"]

    def exponent(name):
        seconds = [math.log(found[name]) for found in growth]
        return round(linear_regression(logs, seconds).slope, 3)

    return {
        "growth_exponent": {name: exponent(name) for name in TIMES},
        "memory_growth": {name: round(most[name] / fewest[name], 3) for name in PEAKS},
        "bytes_per_row": {
            name: round((most[name] - fewest[name]) / more) for name in PEAKS
        },
    }


def train(processes: int, batch_size: int, whisper: Path, corpus: Path, work: Path):
    """Run the recipe in so many processes, on one thread each.

    Arguments
    ---------
    processes : int
        More than one are started by torchrun.
    batch_size : int
        Clips in a step of one process.
    whisper, corpus, work : Path
        Base model, data folder, and where the run goes.

    Returns
    -------
    dict
        Seconds of training, test WER, and all validation losses.
    """
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc_per_node={processes}"]
    output = work / f"{processes}_processes"
    settings = {
        "whisper_hub": whisper,
        "data_folder": corpus,
        "locale": "xx",
        "encoder_context": "clip",
        "runs_folder": output,
        "output_folder": output / "run",
        "precision": PRECISION,
        "rank": 4,
        "lr": 0.01,
        "batch_size": batch_size,
        "max_tokens": 15,
        "num_workers": 0,
        "distributed_backend": "gloo",
        "device": "cpu",
    }
    done = subprocess.run(
        [
            *(*launcher, ROOT / "recipes" / "CommonVoice" / "train.py"),
            *(ROOT / "hparams" / "sumra_whisper_base.yaml", "--noprogressbar"),
            *(f"--{name}={value}" for name, value in settings.items()),
        ],
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"Training in {processes} process(es) failed:\n{done.stderr[-3000:]}")
    summary = json.loads((output / "run" / "summary.json").read_text(encoding="utf-8"))
    return {
        "processes": processes,
        "batch_size": batch_size,
        "train_seconds": summary["seconds"]["train"],
        "test_wer": summary["test_wer"],
        "valid_losses": [record["valid_loss"] for record in summary["validations"]],
    }


def compare_processes(whisper: Path, work: Path, rows: int = 512) -> dict:
    """Train the same in one process and in two; see how far the losses part."""
    corpus = work / "small_corpus"
    run_step("make_corpus", work, folder=corpus, rows=rows)
    one, two = (
        train(processes, 8 // processes, whisper, corpus, work) for processes in (1, 2)
    )
    pairs = zip(one["valid_losses"], two["valid_losses"], strict=True)
    return {
        "rows": rows,
        "precision": PRECISION,
        "runs": [one, two],
        "largest_loss_difference": max(abs(a - b) for a, b in pairs),
    }


def print_tables(result: dict) -> None:
    """Print what matters most of a result."""
    print(f"{'rows':>8} {'':8} {'seconds':>9} {'s/1000':>8} {'cpu s':>9} {'MB':>7}")
    for found in result["growth"]:
        for step in STEPS:
            peak = found[f"{step}_peak_bytes"] / 1e6
            print(
                f"{found['rows']:8} {step:8} {found[f'{step}_seconds']:9.1f} "
                f"{found[f'{step}_seconds_per_1000_rows']:8.2f} "
                f"{found[f'{step}_cpu_seconds']:9.1f} {peak:7.0f}"
            )
    for name in ("growth_exponent", "memory_growth", "bytes_per_row"):
        print(f"{name}: {result.get(name, 'needs two numbers of rows')}")
    for run in result["processes"]["runs"]:
        print(
            f"{run['processes']} process(es), batches of {run['batch_size']}: "
            f"{run['train_seconds']:.1f} s of training, test WER "
            f"{run['test_wer']:.2f} %, last loss {run['valid_losses'][-1]:.6f}"
        )
    difference = result["processes"]["largest_loss_difference"]
    print(f"Their validation losses differ by at most {difference:.1e}.")


def main() -> None:
    """The command: ``python growth.py --help``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    text = "training clips of each measurement (default: 1000 8000 70000)"
    add("--rows", type=int, nargs="+", default=[1000, 8000, 70000], help=text)
    text = "the JSON file to write (default: %(default)s)"
    add("--output", type=Path, default="results/bench/growth.json", help=text)
    text = "where to put temporary files, 2 GB for 70000 rows (default: the system's)"
    add("--work", type=Path, help=text)
    arguments = parser.parse_args()
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=arguments.work) as folder:
        work = Path(folder)
        whisper = work / "tiny-whisper"
        run_step("make_tiny_whisper", work, folder=whisper)
        growth = [measure_growth(rows, whisper, work) for rows in arguments.rows]
        processes = compare_processes(whisper, work)
    result = {
        "machine": {
            "cores": os.cpu_count(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "growth": growth,
        **(summarize_growth(growth) if len(set(arguments.rows)) > 1 else {}),
        "processes": processes,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    arguments.output.write_text(text, encoding="utf-8")
    print_tables(result)


if __name__ == "__main__":
    main()
