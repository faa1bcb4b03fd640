"""A report has every run, every table that has data, and nothing stale."""

import csv
import logging
import re

import pytest

from speechbrain_sumra.report import ReportError, write_report
from speechbrain_sumra.report.__main__ import main

TABLES = {f"table{number}.csv" for number in (2, 3, 4, 5)} | {"learning_rates.csv"}
PLOTS = {
    "wer_by_parameters.png",
    "wer_by_bytes.png",
    "by_learning_rate.png",
    "learning_curves.png",
    "row_loads.png",
}


@pytest.fixture
def paths(add_run):
    """A small study that has something for every table, and two runs for none."""
    paths = [add_run("unadapted"), add_run("ft"), add_run("lora_fa")]
    for seed in (1, 2):
        for method in ("lora", "sumra"):
            paths.append(add_run(method, seed=seed))
    loads = {"row_load_over_bound": 1.5}
    paths += [
        add_run("sumra", adapter={"strategy": "block"}, largest_basis_figures=loads),
        add_run("sumra", train_hours=1, data_hash="e" * 64),
        add_run("sumra", language="none"),
        add_run("lora", errors=None, lr=1e-3, best_valid_loss=1.5),
        add_run("lora", errors=None, lr=2e-3, best_valid_loss=1.4),
        add_run("dora", init_from="a|b"),
        add_run("lora", lr=1e-4),
    ]
    return paths


def read(folder, name):
    with open(folder / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_has_all_tables_and_plots(results, paths):
    report = write_report(results)
    assert report == results / "report" / "report.md"
    files = {path.name for path in report.parent.iterdir()}
    assert files == TABLES | PLOTS | {"report.md", "runs.csv"}
    text = report.read_text(encoding="utf-8")
    assert "No runs" not in text and "not made" not in text
    for name in PLOTS:
        assert f"]({name})" in text
    assert f"{len(paths)} runs: {len(paths) - 2} tested, 2 of sweeps" in text
    assert "torch 2.14.1" in text and "d" * 12 in text and "Seeds: 1, 2." in text


def test_no_run_is_lost(results, paths):
    report = write_report(results)
    runs = read(report.parent, "runs.csv")
    assert sorted(run["summary"] for run in runs) == sorted(paths)
    others = report.read_text(encoding="utf-8").split("## Other runs")[1]
    for run in runs:
        assert (f"| {run['summary']} |" in others) == (not run["tables"])
    assert [run["summary"] for run in runs if not run["tables"]] == paths[-2:]


def test_every_figure_names_the_summaries_behind_it(results, paths):
    folder = write_report(results).parent
    tables = {run["summary"]: run["tables"].split() for run in read(folder, "runs.csv")}
    for name in TABLES:
        records = read(folder, name)
        assert records
        named = [path for row in records for path in row["summaries"].split(";")]
        assert all((results / path).is_file() for path in named)
        stem = name.removesuffix(".csv")
        assert sorted(named) == sorted(
            p for p, found in tables.items() if stem in found
        )


def test_precisions_are_counted(results, paths, add_run):
    for seed, precision in enumerate(("bf16", "fp32", "fp32"), start=7):
        add_run("sorsa", seed=seed, precision=precision)
    text = write_report(results).read_text(encoding="utf-8")
    assert f"bf16 (1), fp32 (2), not recorded ({len(paths)})." in text


def test_texts_that_do_not_end_are_told(results, paths, add_run):
    ended = write_report(results).read_text(encoding="utf-8")
    assert "No group of runs loses a point" in ended
    add_run("dora", errors=[1, 0, 0, 40])
    add_run("unadapted", locale="ia", errors=[40, 0, 0, 0])  # knows no better
    report = write_report(results)
    text = report.read_text(encoding="utf-8").split("## Texts that do not end")[1]
    (line,) = (line for line in text.split("## ")[0].splitlines() if "hsb" in line)
    assert "| DoRA |" in line and "| 256.25 | 31.25 | 225.00 |" in line
    wers = [row["capped_wer"] for row in read(report.parent, "runs.csv")]
    assert "31.25" in wers and "" in wers  # sweeps test nothing


def test_names_cannot_break_a_table(results, paths):
    text = write_report(results).read_text(encoding="utf-8")
    assert r"init_from a\|b" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        lines = block.splitlines()
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(lines) > 2 and len(widths) == 1


def test_a_second_report_is_the_same_and_counts_nothing_twice(results, paths):
    first = write_report(results)
    before = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    write_report(results)
    after = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    assert after == before


def test_nothing_of_an_earlier_report_stays(results, paths):
    folder = write_report(results).parent
    for path in paths:
        if path != paths[0]:
            (results / path).unlink()
    text = write_report(results).read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "runs.csv",
        "table2.csv",
    }
    assert text.count("No runs for this table.") == 4
    assert text.count("not made, for there is") == 5


def test_runs_on_other_data_are_a_warning(results, add_run, caplog):
    add_run("lora")
    add_run("sumra", data_hash="e" * 64)
    with caplog.at_level(logging.WARNING):
        text = write_report(results).read_text(encoding="utf-8")
    warning = "Runs of hsb with train_hours 10 have 2 different data_hash"
    assert f"**Warning:** {warning}" in text
    assert warning in caplog.text


def test_other_hours_are_no_reason_to_warn(results, add_run):
    add_run("lora")
    add_run("lora", train_hours=1, data_hash="e" * 64)
    assert "Warning" not in write_report(results).read_text(encoding="utf-8")


def test_another_baseline_and_folder(results, paths, tmp_path):
    report = write_report(results, tmp_path / "elsewhere", "lora_fa")
    assert report == tmp_path / "elsewhere" / "report.md"
    assert "hsb vs. LoRA-FA" in report.read_text(encoding="utf-8")
    assert not (results / "report").exists()


def test_a_missing_baseline_is_a_warning(results, add_run):
    add_run("sumra")
    text = write_report(results).read_text(encoding="utf-8")
    assert "**Warning:** There is no tested run of LoRA" in text


def test_a_refused_summary_leaves_the_earlier_report(results, paths):
    report = write_report(results)
    before = report.read_bytes()
    (results / paths[0]).write_text("{")
    with pytest.raises(ReportError):
        write_report(results)
    assert report.read_bytes() == before


def test_the_command_prints_where_the_report_is(results, paths, capsys):
    assert main([str(results)]) == 0
    assert capsys.readouterr().out.strip() == str(results / "report" / "report.md")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "found no summary.json"),
        (["--baseline", "lroa"], "found no summary.json"),
    ],
)
def test_nothing_to_report_is_one_line_and_status_1(
    results, capsys, arguments, message
):
    assert main([str(results), *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (results / "report").exists()


def test_an_unknown_baseline_is_status_1(results, add_run, capsys):
    add_run()
    assert main([str(results), "--baseline", "lroa"]) == 1
    assert "found 'lroa'" in capsys.readouterr().err


def test_help_names_the_files(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*TABLES, "runs.csv", "report.md"))
