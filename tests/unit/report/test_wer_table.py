"""Cells are what can be computed by hand from the summaries behind them."""

import csv
import io
import math

import pytest

from speechbrain_sumra.report.layouts import layouts
from speechbrain_sumra.report.study import Study
from speechbrain_sumra.report.summaries import find_runs
from speechbrain_sumra.report.wer_table import wer_table

EQUAL = {"words": [10] * 4}


def make(results, name="table2", baseline="lora"):
    study = Study(find_runs(results), baseline)
    (table,) = (wer_table(each) for each in layouts(study) if each.name == name)
    return table


def records(table):
    return list(csv.DictReader(io.StringIO(table.csv())))


def rows(table):
    """Cells of a table of one part, as dicts by column."""
    ((_, columns, lines),) = table.blocks
    return [dict(zip(columns, line, strict=True)) for line in lines]


def test_a_cell_has_mean_interval_change_and_sources(results, add_run):
    lora = add_run("lora", errors=[5, 5, 5, 5], **EQUAL)
    sumra = [
        add_run("sumra", errors=[4] * 4, seed=1, **EQUAL),
        add_run("sumra", errors=[3] * 4, seed=2, **EQUAL),
    ]
    table = make(results)
    first, second = records(table)
    assert first["summaries"] == lora
    assert (first["change_percent"], first["half_interval"]) == ("", "")
    assert second["summaries"] == ";".join(sumra)
    assert second["baseline_summaries"] == lora
    assert float(second["wer"]) == 35.0
    half = 12.7062 * math.sqrt(50) / math.sqrt(2)  # two values, 5 from their mean
    assert float(second["half_interval"]) == pytest.approx(half, abs=1e-2)
    assert float(second["change_percent"]) == -30.0
    assert float(second["difference"]) == -15.0
    # Every utterance is as much better, so it does not matter which are drawn.
    assert (second["difference_low"], second["difference_high"]) == ("-15.0", "-15.0")
    assert second["excludes_zero"] == "True"
    shown = rows(table)[1]
    assert shown["method"] == "SumRA"
    assert shown["hsb WER"] == "**35.00 ± 63.53**"
    assert shown["hsb vs. LoRA"] == "-30.0 % [-15.00, -15.00] †"
    assert shown["seeds"] == "2"
    assert (shown["trained, M"], shown["MB a language"]) == ("1.00", "4.00")


def test_ranks_are_compared_with_their_own_baseline(results, add_run):
    add_run("lora", rank=2, errors=[10, 10, 10, 10], **EQUAL)
    add_run("lora", rank=32, errors=[5, 5, 5, 5], **EQUAL)
    for rank in (2, 32, 8):
        add_run("dora", rank=rank, errors=[4, 4, 4, 4], **EQUAL)
    changes = {
        row["rank"]: row["change_percent"]
        for row in records(make(results))
        if row["method"] == "DoRA"
    }
    assert changes == {"2": "-60.0", "32": "-20.0", "8": ""}


def test_rows_are_in_the_papers_order(results, add_run):
    for method, rank in (("sumra", 32), ("lora", 32), ("sumra", 2), ("ft", 32)):
        add_run(method, rank=rank)
    add_run("unadapted")
    names = [(row["method"], row["rank"]) for row in rows(make(results))]
    assert names == [
        ("unadapted", "–"),
        ("FT", "–"),
        ("SumRA", "2"),
        ("LoRA", "32"),
        ("SumRA", "32"),
    ]


def test_best_and_second_best_are_marked_and_unadapted_is_not(results, add_run):
    wers = {"unadapted": 0, "ft": 3, "lora": 1, "dora": 2, "pissa": 1, "sumra": 4}
    for method, errors in wers.items():
        add_run(method, errors=[errors] * 4, **EQUAL)
    marks = {row["method"]: row["mark"] for row in records(make(results))}
    assert marks == {
        "unadapted": "",
        "FT": "",
        "LoRA": "best",
        "DoRA": "second",
        "PiSSA": "best",
        "SumRA": "",
    }
    shown = {row["method"]: row["hsb WER"] for row in rows(make(results))}
    assert shown["LoRA"] == "**10.00 ± –**"
    assert shown["DoRA"] == "<u>20.00 ± –</u>"


def test_one_row_alone_is_not_the_best(results, add_run):
    add_run("lora")
    assert records(make(results))[0]["mark"] == ""


def test_other_data_is_not_compared(results, add_run):
    add_run("lora")
    add_run("dora", data_hash="e" * 64, words=[4, 4, 4, 5])
    assert [row["difference"] for row in records(make(results))] == ["", ""]


def test_the_best_on_dev_stands_in_a_cell(results, add_run):
    add_run("lora", lr=1e-3, best_valid_loss=1.4, errors=[0, 0, 0, 1])
    kept = add_run("lora", lr=5e-4, best_valid_loss=1.3, errors=[4, 4, 4, 4])
    (row,) = records(make(results))
    assert (row["summaries"], row["lr"]) == (kept, "0.0005")


def test_locales_are_columns_and_models_are_parts(results, add_run):
    for model in ("openai/whisper-base", "openai/whisper-small"):
        for locale, lr in (("hsb", 1e-3), ("eo", 2e-3)):
            add_run(base_model=model, locale=locale, lr=lr)
    table = make(results)
    assert [heading for heading, _, _ in table.blocks] == [
        "whisper-base",
        "whisper-small",
    ]
    for _, columns, lines in table.blocks:
        assert {"eo WER", "hsb WER"} <= set(columns)
        assert lines[0][columns.index("lr")] == "eo: 0.002, hsb: 0.001"


def test_the_papers_figures_have_their_column_where_comparable(results, add_run):
    small = {
        "base_model": "whisper-small",
        "train_hours": 10.0,
        "train_hours_kept": 5.3,
    }
    for method in ("lora", "sumra"):
        for locale in ("eo", "hsb"):
            add_run(method, locale=locale, **small)
    table = make(results)
    assert [row["eo paper"] for row in rows(table)] == ["23.39", "20.77"]
    assert not {"hsb paper", "paper vs. LoRA"} & rows(table)[0].keys()
    assert [row["paper_wer"] for row in records(table)] == ["23.39", "", "20.77", ""]
    assert sum("stand beside ours" in note for note in table.notes) == 1
    assert "Ours had less speech than asked for: eo 5.30 of 10 h." in table.notes


def test_else_the_papers_own_change_stands_beside(results, add_run):
    for method in ("lora", "sumra"):
        add_run(method)
    table = make(results)
    assert [row["paper vs. LoRA"] for row in rows(table)] == ["–", "-11.6 %"]
    assert sum("none is comparable" in note for note in table.notes) == 1
    assert sum("mean over its five languages" in note for note in table.notes) == 1


def test_table_3_compares_kinds_of_a(results, add_run):
    for adapter in (
        {},
        {"strategy": "greedy"},
        {"strategy": "greedy", "row_norm": 1.5},
    ):
        add_run("sumra", adapter=adapter)
    add_run("sumra", init_from={"b.safetensors": 1, "a.safetensors": 2})
    add_run("lora")
    labels = ("method", "strategy", "row_norm", "init_from")
    shown = [
        tuple(row[name] for name in labels) for row in rows(make(results, "table3"))
    ]
    start = '{"a.safetensors": 2, "b.safetensors": 1}'
    assert shown == [
        ("LoRA", "–", "raw", "–"),
        ("SumRA", "greedy", "1.5", "–"),
        ("SumRA", "greedy", "raw", "–"),
        ("SumRA", "interleave", "raw", start),
        ("SumRA", "interleave", "raw", "–"),
    ]


def test_starts_are_called_by_what_tells_them_apart(results, add_run):
    add_run("lora")
    add_run("sumra")
    for start in ("related", "unrelated"):
        add_run("sumra", init_from=f"runs/donors/{start}/sumra/rank-32")
    shown = [row["init_from"] for row in rows(make(results, "table3"))]
    assert sorted(shown) == ["related", "unrelated", "–", "–"]


def test_table_4_compares_within_the_same_hours(results, add_run):
    for hours, errors in ((1, 8), (10, 5)):
        add_run("lora", train_hours=hours, errors=[errors] * 4, **EQUAL)
        add_run("sumra", train_hours=hours, errors=[4] * 4, **EQUAL)
    table = make(results, "table4")
    sumra = rows(table)[1]
    assert sumra["1 h vs. LoRA"].startswith("-50.0 %")
    assert sumra["10 h vs. LoRA"].startswith("-20.0 %")


def test_table_5_compares_with_the_usual_choice_of_the_same_method(results, add_run):
    add_run("lora", errors=[5] * 4, **EQUAL)
    add_run("lora", language="none", errors=[6] * 4, **EQUAL)
    add_run("sumra", errors=[4] * 4, **EQUAL)
    add_run("sumra", train_norms=False, errors=[5] * 4, **EQUAL)
    found = {
        (row["method"], row["language"], row["train_norms"]): row["change_percent"]
        for row in records(make(results, "table5"))
    }
    assert found == {
        ("LoRA", "new", "yes"): "",
        ("LoRA", "none", "yes"): "20.0",
        ("SumRA", "new", "yes"): "",
        ("SumRA", "new", "no"): "25.0",
    }


def test_without_runs_a_table_says_so(results, add_run):
    add_run("lora")
    assert make(results, "table4").markdown().endswith("No runs for this table.")
