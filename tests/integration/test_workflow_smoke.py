"""The workflow on a tiny Whisper: it finishes, repeats nothing, survives failures."""

import csv
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml
from recipe import ROOT, read_json

WORKFLOW = ROOT / "workflow"
pytestmark = pytest.mark.skipif(
    find_spec("snakemake") is None, reason="needs [workflow], i.e. snakemake"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the workflow is started; runs and results go there."""
    return tmp_path_factory.mktemp("workflow")


@pytest.fixture(scope="module")
def start(folder, tiny_whisper, synthetic_corpus):
    """Runs the smoke config, with what another config adds to it."""

    def run(*arguments, **additions):
        more = folder / "more.yaml"
        more.write_text(yaml.safe_dump(additions))
        return subprocess.run(
            [
                *(sys.executable, "-m", "snakemake"),
                *("--snakefile", WORKFLOW / "Snakefile"),
                *("--configfile", WORKFLOW / "config" / "smoke.yaml", more),
                *("--profile", WORKFLOW / "profiles" / "local"),
                *("--directory", folder, "--cores", "2", *arguments),
                *("--config", f"data_folder={synthetic_corpus}"),
                f"whisper_hub={tiny_whisper}",
            ],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1200,
        )

    return run


@pytest.fixture(scope="module")
def finished(start):
    """The first time."""
    done = start()
    assert done.returncode == 0, done.stderr[-5000:]
    return done


def summaries(folder):
    """When each summary was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}


def test_a_dry_run_says_how_much_there_is_to_do(start, folder):
    done = start("--dry-run")
    assert done.returncode == 0, done.stderr[-5000:]
    assert "smoke: 5 runs, 0 of them finished" in done.stderr
    assert "4 sweep runs for 2 learning rates" in done.stderr
    assert "hours left with 2 at a time" in done.stderr
    assert not (folder / "runs").exists()


def test_all_runs_finish_with_the_best_learning_rate(finished, folder):
    runs, results = folder / "runs" / "smoke", folder / "results" / "smoke"
    for method in ("lora", "sumra"):
        sweep = runs / "sweep" / f"{method}_whisper_base" / "rank-4"
        losses = {}
        for rate in (0.001, 0.01):
            summary = read_json(sweep / f"lr-{rate}" / "summary.json")
            assert summary["test_wer"] is None and summary["lr"] == rate
            losses[rate] = summary["best_valid_loss"]
        chosen = read_json(sweep / "lr.json")
        assert chosen["lr"] == min(losses, key=losses.get)
        assert chosen["losses"] == [list(pair) for pair in losses.items()]
        for seed in (1, 2):
            run = runs / f"{method}_whisper_base" / "eo" / f"rank-4_seed-{seed}"
            summary = read_json(run / "summary.json")
            assert summary["lr"] == chosen["lr"] and summary["seed"] == seed
            assert summary["test_wer"] > 0
            assert (run / "adapter.safetensors").exists()
            assert not (run / "save").exists()
    (unadapted,) = (runs / "unadapted_whisper_base").rglob("summary.json")
    assert read_json(unadapted)["trained_parameters"] == 0

    (log,) = (runs / "logs" / "features").rglob("*.log")
    assert "encoder states of 20 clips" in log.read_text()

    # All of it is collected, and reported.
    for path in runs.rglob("summary.json"):
        assert read_json(results / path.relative_to(runs)) == read_json(path)
    assert len(list(results.rglob("lr.json"))) == 2
    assert "SumRA" in (results / "report" / "report.md").read_text(encoding="utf-8")


def test_nothing_is_repeated(finished, start, folder):
    before = summaries(folder)
    assert len(before) == 2 * (4 + 5)
    done = start()
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Nothing to be done" in done.stderr
    assert "5 runs, 5 of them finished" in done.stderr
    assert summaries(folder) == before
    # Nor when what stands before a run is made anew.
    runs = folder / "runs" / "smoke"
    for path in (*runs.rglob("lr.json"), *runs.rglob("*.done")):
        path.touch()
    done = start()
    assert done.returncode == 0, done.stderr[-5000:]
    trained = {path: time for path, time in before.items() if runs in path.parents}
    assert trained.items() <= summaries(folder).items()


def jobs(done):
    """Number of jobs by rule that a dry run lists."""
    assert done.returncode == 0, done.stderr[-5000:]
    table = done.stdout + done.stderr
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def test_what_is_added_or_removed_is_made(finished, start, folder):
    more = {"lr": [{"values": [0.001, 0.01, 0.1]}]}
    found = jobs(start("--dry-run", sweep=more))
    assert found["train"] == found["choose_learning_rate"] == 2
    assert "collect" not in found
    # More hours need another preparation, which is none of the others' concern.
    longer = {"method": "lora", "seed": 1, "train_hours": 20, "lr": 0.01}
    config = yaml.safe_load((WORKFLOW / "config" / "smoke.yaml").read_text())
    found = jobs(start("--dry-run", runs=[longer, *config["runs"]]))
    assert (found["prepare"], found["features"], found["train"]) == (1, 1, 1)
    run = next((folder / "runs" / "smoke" / "sumra_whisper_base").rglob("summary.json"))
    hidden = run.rename(run.with_name("hidden.json"))
    found = jobs(start("--dry-run"))
    hidden.rename(run)
    assert (found["train"], found["collect"], found["report"]) == (1, 1, 1)


def test_a_failed_run_keeps_its_log_and_the_others_go_on(finished, start, folder):
    before = summaries(folder)
    config = yaml.safe_load((WORKFLOW / "config" / "smoke.yaml").read_text())
    impossible = {"method": "sumra", "rank": 17, "lr": 0.01, "seed": 1}
    too_fast = {"method": "lora_fa", "values": [0.01, 1e15]}
    # Steps enough for SpeechBrain to lose its patience.
    diverging = {"method": "lora_fa", "batch_size": 1, "seed": 1}
    rates = [*config["sweep"]["lr"], too_fast]
    runs = [impossible, diverging, *config["runs"]]
    done = start(runs=runs, sweep={"lr": rates})
    assert done.returncode != 0
    runs, results = folder / "runs" / "smoke", folder / "results" / "smoke"
    name = "sumra_whisper_base/eo/rank-17_lr-0.01_seed-1"
    log = runs / "logs" / f"{name}.log"
    assert "from 1 to 16" in log.read_text()
    assert not (runs / name / "summary.json").exists()
    # What diverges in a sweep has failed, too, and is not chosen.
    sweep = "sweep/lora_fa_whisper_base/rank-4_batch_size-1"
    (one, loss), (other, none) = read_json(runs / sweep / "lr.json")["losses"]
    assert (one, other, none) == (0.01, 1e15, None) and 0 < loss < 100
    new = summaries(folder).items() - before.items()
    found = {path.parent.relative_to(folder).as_posix() for path, _ in new}
    finished = {
        "lora_fa_whisper_base/eo/rank-4_batch_size-1_seed-1",
        f"{sweep}/lr-0.01",
    }
    diverged = {name for name in found if name.startswith("runs") and "lr-1000" in name}
    assert len(diverged) == 1
    both = {
        f"{place}/smoke/{name}" for place in ("runs", "results") for name in finished
    }
    assert found - diverged == both
    # The report is of those that have finished.
    report = (results / "report" / "report.md").read_text(encoding="utf-8")
    assert "LoRA-FA" in report


def test_speech_of_other_languages(start, folder, synthetic_corpus, tmp_path):
    """A made from it, and a start from the mean of two languages."""
    with open(synthetic_corpus / "eo" / "train.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for locale in ("cs", "pl"):
        target = tmp_path / "generic" / locale
        shutil.copytree(synthetic_corpus / "eo" / "clips", target / "clips")
        lines = [f"{row['path']}\t{row['sentence']}" for row in rows]
        (target / "train.tsv").write_text("\n".join(["path\tsentence", *lines]) + "\n")
    done = start(
        name="speech",
        shared_speech={
            "data_folder": str(tmp_path / "generic"),
            "locales": ["cs", "pl"],
            "calibration_utterances": 4,
        },
        warm_starts={"related": ["cs", "pl"]},
        runs=[
            {"method": "sumra", "strategy": "learned", "lr": 0.01},
            {"method": "sumra", "init_from": "related", "lr": 0.01},
        ],
    )
    assert done.returncode == 0, done.stderr[-5000:]
    results = folder / "results" / "speech" / "sumra_whisper_base" / "eo"
    found = {path.parent.name: read_json(path) for path in results.rglob("*.json")}
    learned, started = (
        next(summary for name, summary in found.items() if word in name)
        for word in ("learned", "related")
    )
    assert len(found) == 2
    assert learned["adapter"]["strategy"] == "learned"
    fingerprints = {s["adapter"]["basis_fingerprint"] for s in found.values()}
    assert len(fingerprints) == 2
    assert "donors/related" in started["init_from"]
