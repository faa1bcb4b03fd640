"""Ratios are taken against the best stock way, and the README shows the file's."""

import json
from pathlib import Path

import pytest
from bench import medians, ratios, write_table
from report import table

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "results" / "bench" / "train.json"


def run(contender, wall, memory, wer):
    return {
        "contender": contender,
        "wall_seconds": wall,
        "peak_memory_bytes": memory,
        "trained_parameters": 10,
        "test_wer": wer,
        "seconds": {"train": wall / 2},
    }


def test_ratios_are_against_the_best_of_the_stock_ways():
    runs = [
        run("speechbrain", 100, 4e9, 61),
        run("speechbrain", 120, 4e9, 63),
        run("transformers", 90, 5e9, 66),
        run("ours-sumra-cold", 30, 2e9, 60),
        run("ours-sumra-warm", 10, 2e9, 60),
    ]
    rates = {"speechbrain": 2.0, "transformers": 3.0, "ours": 6.0}
    found = ratios(
        medians(runs),
        {"whisper-base": {"ratio": 1.5}},
        {name: {"audio_seconds_per_second": rate} for name, rate in rates.items()},
        {"fp32": {"adapter_overhead": 0.2}, "bf16": {"adapter_overhead": 0.1}},
    )
    assert found == {
        "cold": 3.0,
        "warm": 9.0,
        "memory": 0.5,
        "wer_difference": -2.0,
        "basis": 1.5,
        "decode": 2.0,
        "adapter_overhead": 0.1,
    }


def test_only_what_is_between_the_marks_is_replaced(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n")
    write_table(readme, "new\n")
    assert readme.read_text() == "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the table"):
        write_table(readme, "new\n")


def test_the_readme_shows_the_committed_result():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert table(result) in (ROOT / "README.md").read_text(encoding="utf-8")
