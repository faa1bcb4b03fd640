#!/usr/bin/env python3
"""Many languages in one model: throughput, switching, files, growth.

> python benchmarks/bench_bank.py --data_folder DIR
> python benchmarks/bench_bank.py --data_folder DIR --adapter FILE

Batches of 16 clips in 1, 2, 4, 8 and 16 languages are decoded by a Bank, by the same
model with one language merged into its weights, and by PEFT with one LoRA a language
(adapter_names). Languages are random B's: speed does not depend on what was learnt.
With --adapter, a trained adapter of --locale is scored in fp32, fp16 and int8.
Writes bank.json into --output and the tables of docs/bank.md. Timings need a machine
that does nothing else.
"""

import argparse
import csv
import json
from pathlib import Path

import torch
from adaptation import ROOT, prepare_manifests
from bank_files import measure_files, measure_storage
from bank_growth import measure_growth
from bank_throughput import measure_switching, measure_throughput
from bench import machine, write_table

from speechbrain_sumra.data import read_audio
from speechbrain_sumra.pretrained import fetch_whisper

BATCH = 16


def parse_arguments() -> argparse.Namespace:
    """What to measure and where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_folder", required=True, help="has <locale>/")
    parser.add_argument("--locale", default="hsb")
    parser.add_argument("--whisper", default="openai/whisper-base")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="runs, in turn")
    parser.add_argument("--adapter", help="score it in fp32, fp16 and int8, too")
    parser.add_argument("--adapters", type=int, default=10_000, help="on disk")
    parser.add_argument("--in_use", type=int, default=1_000, help="of these")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench" / "bank")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench")
    return parser.parse_args()


def ratios(throughput: dict, files: dict, switching: dict) -> dict[str, float]:
    """The figures that targets are set for.

    Arguments
    ---------
    throughput, files, switching : dict
        What ``measure_throughput``, ``measure_files`` and ``measure_switching``
        returned.

    Returns
    -------
    dict
        "mixed_vs_merged", "mixed_vs_peft": tokens a second of a batch in 16
        languages over those of the merged model and of PEFT, in float32;
        "file_vs_peft": bytes of a language's file over those of PEFT's; "switch_ms":
        from one language in memory to another.

    Example
    -------
    >>> rates = {"bank, 16 languages": 90.0, "merged": 100.0, "peft, 16 languages": 9.0}
    >>> files = {"fp32": {"bytes": 51}, "peft": {"bytes": 102}}
    >>> ratios({"fp32": rates}, files, {"switch_ms": 0.1})
    {'mixed_vs_merged': 0.9, 'mixed_vs_peft': 10.0, 'file_vs_peft': 0.5, 'switch_ms': 0.1}
    """  # noqa: E501
    rates = throughput["fp32"]
    mixed = rates["bank, 16 languages"]
    return {
        "mixed_vs_merged": round(mixed / rates["merged"], 3),
        "mixed_vs_peft": round(mixed / rates["peft, 16 languages"], 3),
        "file_vs_peft": round(files["fp32"]["bytes"] / files["peft"]["bytes"], 4),
        "switch_ms": switching["switch_ms"],
    }


def table(result: dict) -> str:
    """Markdown of a result, for docs/bank.md."""
    throughput = result["throughput"]
    precisions = list(throughput)
    lines = [
        f"| tokens a second, batches of {BATCH} | {' | '.join(precisions)} |",
        "|---|" + "---|" * len(precisions),
    ]
    for name in throughput["fp32"]:
        cells = [throughput[p].get(name) for p in precisions]
        shown = " | ".join("" if cell is None else f"{cell:.0f}" for cell in cells)
        lines.append(f"| {name} | {shown} |")
    wers = result["storage_wer"] or {}
    lines += [
        "",
        "| a file | bytes | 1 language, MB | 100, MB | 10,000, MB | WER, % |",
        "|---|---|---|---|---|---|",
    ]
    for name, facts in result["files"].items():
        sizes = " | ".join(
            f"{facts[f'{n}_languages'] / 1e6:.1f}" for n in (1, 100, 10000)
        )
        wer = f"{wers[name]:.2f}" if name in wers else ""
        lines.append(f"| {name} | {facts['bytes']} | {sizes} | {wer} |")
    growth = result["growth"]
    lines += ["", "| " + " | ".join(growth) + " |", "|---" * len(growth) + "|"]
    lines.append("| " + " | ".join(f"{value:g}" for value in growth.values()) + " |")
    lines += ["", "| ratio | measured |", "|---|---|"]
    lines += [f"| `{name}` | {value} |" for name, value in result["ratios"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything and write it down."""
    arguments = parse_arguments()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    whisper = str(fetch_whisper(arguments.whisper, str(work.parent / "pretrained")))
    manifests = prepare_manifests(
        arguments.data_folder, arguments.locale, work, test_hours=1
    )
    with open(manifests / "test.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["wav"] = row["wav"].replace("$data_root", arguments.data_folder)
    clips = [read_audio(row["wav"]) for row in rows[:BATCH]]

    throughput = measure_throughput(
        whisper, clips, work, arguments.rank, arguments.repeats
    )
    switching = measure_switching(whisper, work, arguments.repeats)
    files = measure_files(whisper, work, arguments.rank)
    storage = None
    if arguments.adapter:
        storage = measure_storage(whisper, arguments.adapter, rows, work)
    growth = measure_growth(whisper, clips, work, arguments.adapters, arguments.in_use)
    result = {
        "machine": machine(),
        "ratios": ratios(throughput, files, switching),
        "throughput": throughput,
        "switching": switching,
        "files": files,
        "storage_wer": storage,
        "growth": growth,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    (arguments.output / "bank.json").write_text(text, encoding="utf-8")
    if arguments.output == ROOT / "results" / "bench":
        write_table(ROOT / "docs" / "bank.md", table(result))
    print(table(result))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
