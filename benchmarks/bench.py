#!/usr/bin/env python3
"""Speed of adapting Whisper, measured beside the stock ways on the same machine.

> python benchmarks/bench.py --data_folder DIR
> python benchmarks/bench.py --data_folder DIR --short

DIR holds <locale>/ as Common Voice is downloaded. Four contenders adapt whisper-base
in turn, with the same clips, batch size, rank, epochs and validations: SpeechBrain's
AdaptedModel + LoRA, Transformers' Seq2SeqTrainer + PEFT LoRA, this recipe with LoRA
and with SumRA; ours with an empty folder for encoder states ("cold") and with what
the cold run left there ("warm"). Then the basis is timed against PEFT's PiSSA
initialisation, decoding against SpeechBrain's searcher and Transformers' generate,
and a training step against one without adapters and the machine's matrix products.

Writes train.json and train.png into --output and the table of the README. Finished
runs in --work are kept: an interrupted benchmark goes on. Timings need a machine that
does nothing else.
"""

import argparse
import json
import os
import platform
import re
import statistics
from pathlib import Path

import torch
from adaptation import CONTENDERS, ROOT, Workload, compare, workload_facts
from basis import measure_bases, measure_stored
from decoding import measure_decoding
from report import draw, table
from step import measure_steps

from speechbrain_sumra.pretrained import fetch_whisper
from speechbrain_sumra.training.summary import versions

STOCK = ("speechbrain", "transformers")
SHORT = {
    "train_hours": 0.2,
    "dev_hours": 0.03,
    "test_hours": 0.1,
    "epochs": 1,
    "validations_per_epoch": 4,
}


def parse_arguments() -> argparse.Namespace:
    """What to measure and where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--locale", default="hsb")
    parser.add_argument("--whisper", default="openai/whisper-base")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each contender")
    parser.add_argument(
        "--short",
        action="store_true",
        help="0.2 h, one epoch, 4 validations, 0.1 h of test (an hour on two cores)",
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=CONTENDERS,
        metavar="NAME",
        help=f"which to run, of {', '.join(CONTENDERS)} (default: all)",
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench")
    return parser.parse_args()


def medians(runs: list[dict]) -> dict[str, dict]:
    """For each contender the median of what its runs measured.

    Arguments
    ---------
    runs : list of dict
        What ``compare`` returned.

    Example
    -------
    >>> run = {"contender": "a", "wall_seconds": 1.0, "peak_memory_bytes": 5,
    ...        "trained_parameters": 2, "test_wer": 50.0, "seconds": {"train": 1.0}}
    >>> medians([run, {**run, "wall_seconds": 3.0}])["a"]["wall_seconds"]
    2.0
    """
    found = {}
    for name in dict.fromkeys(run["contender"] for run in runs):
        own = [run for run in runs if run["contender"] == name]
        keys = ("wall_seconds", "peak_memory_bytes", "trained_parameters", "test_wer")
        found[name] = {key: statistics.median(run[key] for run in own) for key in keys}
        found[name]["seconds"] = {
            phase: round(statistics.median(run["seconds"][phase] for run in own), 2)
            for phase in own[0]["seconds"]
        }
    return found


def ratios(median: dict, bases: dict, decoding: dict, steps: dict) -> dict[str, float]:
    """The figures that targets are set for, always against the best stock way.

    Arguments
    ---------
    median, bases, decoding, steps : dict
        What ``medians``, ``measure_bases``, ``measure_decoding`` and
        ``measure_steps`` returned.

    Returns
    -------
    dict
        "cold", "warm": wall time of the faster stock way over ours with SumRA;
        "memory": ours over theirs; "wer_difference": ours minus theirs, in points;
        "basis": PiSSA's time over ours for whisper-base; "decode": our rate over
        theirs; "adapter_overhead": of a step, as a share, in the default precision.
    """

    def best(key):
        return min(median[name][key] for name in STOCK if name in median)

    ours = median["ours-sumra-cold"]
    rate = max(decoding[name]["audio_seconds_per_second"] for name in STOCK)
    found = {
        "cold": best("wall_seconds") / ours["wall_seconds"],
        "warm": best("wall_seconds") / median["ours-sumra-warm"]["wall_seconds"],
        "memory": ours["peak_memory_bytes"] / best("peak_memory_bytes"),
        "wer_difference": ours["test_wer"] - best("test_wer"),
        "basis": bases["whisper-base"]["ratio"],
        "decode": decoding["ours"]["audio_seconds_per_second"] / rate,
        "adapter_overhead": list(steps.values())[-1]["adapter_overhead"],
    }
    return {name: round(value, 3) for name, value in found.items()}


def machine() -> dict:
    """The machine, in words that a stranger can compare."""
    return {
        "processor": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        **versions(),
    }


def _cpu_name() -> str:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("cpu_name", platform.machine())


def write_table(readme: Path, text: str) -> None:
    """Put the table between the README's marks."""
    marks = ("<!-- bench -->\n", "<!-- /bench -->")
    pattern = re.compile(f"({marks[0]}).*?({marks[1]})", re.DOTALL)
    content = readme.read_text(encoding="utf-8")
    if not pattern.search(content):
        raise ValueError(f"{readme} has no place for the table: {marks[0].strip()}")
    content = pattern.sub(lambda found: f"{found[1]}{text}{found[2]}", content)
    readme.write_text(content, encoding="utf-8")


def main() -> None:
    """Measure everything and write it down."""
    arguments = parse_arguments()
    work = arguments.work / ("short" if arguments.short else "full")
    if not {"ours-sumra-cold", "ours-sumra-warm"} < set(arguments.contenders):
        raise SystemExit(
            "Expected ours-sumra-cold, ours-sumra-warm and a stock way as "
            f"--contenders, found {' '.join(arguments.contenders)}."
        )
    work.mkdir(parents=True, exist_ok=True)
    whisper = str(fetch_whisper(arguments.whisper, str(arguments.work / "pretrained")))
    settings = SHORT if arguments.short else {}
    data_folder = str(Path(arguments.data_folder).resolve())
    workload = Workload(whisper, data_folder, arguments.locale, **settings)

    runs = compare(workload, arguments.repeats, work, arguments.contenders)
    bases = measure_bases()
    steps = measure_steps(whisper, work)
    decoding = measure_decoding(
        whisper, work / "manifests" / "test.csv", data_folder, work, 32, 3
    )
    median = medians(runs)
    result = {
        "machine": machine(),
        "version": "short" if arguments.short else "full",
        "workload": workload_facts(workload),
        "ratios": ratios(median, bases, decoding, steps),
        "medians": median,
        "basis": {**bases, "stored_seconds": measure_stored()},
        "decode": decoding,
        "step": steps,
        "runs": runs,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "train.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(result, arguments.output / "train.png")
    text = table(result)
    if arguments.output == ROOT / "results" / "bench":
        write_table(ROOT / "README.md", text)
    print(text)
    print(json.dumps(result["ratios"], indent=2))


if __name__ == "__main__":
    main()
