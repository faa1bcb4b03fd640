"""What stands before what, and with which arguments."""

import itertools
import json
from pathlib import Path

import pytest
from graph import Graph
from study import plan


def graph_of(config):
    return Graph(plan(config), config)


def arguments(words):
    """Settings of a command line by name."""
    return dict(w.removeprefix("--").split("=", 1) for w in words if "=" in w)


def test_a_training_waits_for_its_learning_rate_and_takes_it(config, tmp_path):
    config["runs_folder"] = str(tmp_path)
    graph = graph_of(config)
    run = next(iter(graph.study.runs.values()))
    rate = tmp_path / "example" / "sweep" / run.group / "lr.json"
    assert str(rate) in graph.needs(run)
    with pytest.raises(FileNotFoundError):
        graph.training(run)
    rate.parent.mkdir(parents=True)
    rate.write_text(json.dumps({"lr": 0.00005}))
    settings = arguments(graph.training(run))
    assert settings["lr"] == "0.00005"
    assert settings["output_folder"] == f"{tmp_path}/example/{run.id}"


def test_a_finished_training_needs_nothing(config, tmp_path):
    config["runs_folder"] = str(tmp_path)
    graph = graph_of(config)
    one, other, *_ = graph.runs.values()
    summary = Path(graph.path(one))
    summary.parent.mkdir(parents=True)
    summary.write_text("{}")
    assert graph.needs(one) == [] and graph.needs(other)


def test_sweep_runs_wait_for_encoder_states_alone(config):
    graph = graph_of(config)
    for swept in graph.study.sweeps.values():
        for run in swept.values():
            assert graph.needs(run) == [
                "runs/example/features/whisper_base/hsb_10h.done"
            ]
            settings = arguments(graph.training(run))
            assert settings["decode"] == "False"
            assert float(settings["lr"]) == run["lr"]


def test_data_are_prepared_once_for_the_most_hours(config):
    config["runs"] = [{"method": "lora", "train_hours": [0.2, 2], "locale": "hsb"}]
    config["sweep"]["train_hours"] = 0.5
    config["options"] = {"dev_hours": 0.3}
    graph = graph_of(config)
    report = "runs/example/manifests/hsb_2h/manifest_report.json"
    assert graph.manifests("hsb") == report
    assert graph.features("whisper_base", "hsb").endswith("/hsb_2h.done")
    settings = arguments(graph.preparation("hsb"))
    assert settings == {
        "dev_hours": "0.3",
        "data_folder": "data",
        "locale": "hsb",
        "train_hours": "2",
        "save_folder": str(Path(report).parent),
        "durations_file": "runs/durations/hsb.csv",
    }
    assert arguments(graph.encoding("whisper_base", "hsb"))["train_hours"] == "2"


def test_a_warm_start_waits_for_its_languages(config, speech):
    config["defaults"]["lr"] = 0.1
    config["runs"] = [{"method": "sumra", "init_from": "related"}]
    graph = graph_of({**config, **speech})
    (run,) = graph.study.runs.values()
    folder = Path(arguments(graph.training(run))["init_from"])
    starts = {str(folder / locale / "summary.json") for locale in ("cs", "pl")}
    assert starts <= set(graph.needs(run))
    for donor in graph.study.donors.values():
        assert Path(graph.path(donor)).is_relative_to(folder)
        assert graph.needs(donor) == ["runs/example/speech.done"]
        settings = arguments(graph.training(donor))
        assert settings["data_folder"] == "runs/example/speech"
        assert settings["lr"] == "0.1"


def test_a_basis_from_speech_is_made_once(config, speech):
    config["runs"] = [
        {"method": "sumra", "strategy": ["inputs", "learned"], "seed": [1, 2]}
    ]
    graph = graph_of({**config, **speech})
    assert len(graph.bases) == 2
    runs = graph.study.runs.values()
    swept = [graph.study.sweeps[run.group].values() for run in runs]
    for run in itertools.chain(runs, *swept):
        assert f"runs/example/basis/{graph.basis(run)}.done" in graph.needs(run)
    inputs, learned = sorted(graph.bases)
    assert graph.basis_needs(inputs) == ["runs/example/speech.done"]
    settings = arguments(graph.basis_making(inputs))
    assert settings["strategy"] == "inputs" and settings["rank"] == "32"
    assert settings["locale"] == "cs+pl+tr"
    (learner,) = graph.study.donors.values()
    assert graph.path(learner) in graph.basis_needs(learned)
    settings = arguments(graph.basis_making(learned))
    assert settings["init_from"] == graph.path(learner, "adapter.safetensors")
    assert graph.donor_locales == ["cs", "pl", "tr"]


def test_a_study_shares_runs_but_no_results(config):
    config.update(study="paper", results_folder="out")
    graph = graph_of(config)
    assert (graph.folder, graph.results) == ("runs/paper", "out/example")
