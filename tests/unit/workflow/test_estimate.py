"""What is left: from the config at first, from finished runs as soon as there are."""

import json

import pytest
from estimate import Estimate
from study import plan

FIGURES = {"start": 10, "hour": 100, "decode": 50, "states": 1000, "run": 1}


@pytest.fixture
def config(config):
    config["estimate"] = {"whisper_base": FIGURES}
    config["options"] = {"number_of_epochs": 3, "dev_hours": 0.5, "test_hours": 0.5}
    config["defaults"]["train_hours"] = 2
    config["sweep"].update(train_hours=1, number_of_epochs=1)
    return config


RUN = 10 + 100 * 2 * 3 + 50
SWEEP = 10 + 100 * 1 * 1


def finish(folder, name, **summary):
    path = folder / name / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(summary))
    return path.stat().st_size


def test_the_configs_figures_add_up(config, tmp_path):
    estimate = Estimate(plan(config), config, tmp_path)
    assert estimate.seconds_left == 4 * RUN + 4 * SWEEP
    assert estimate.bytes == 1e9 * (2 + 0.5 + 0.5) + 4 * 1e6
    text = estimate.text(at_once=2)
    assert "example: 4 runs, 0 of them finished" in text
    assert "4 sweep runs for 2 learning rates, 0 of them finished" in text
    assert f"about {(4 * RUN + 4 * SWEEP) / 3600 / 2:.1f} hours left" in text


def test_there_is_no_more_speech_than_there_is(config, tmp_path):
    config["estimate"]["hours"] = {"hsb": 1}
    estimate = Estimate(plan(config), config, tmp_path)
    assert estimate.seconds_left == 4 * (RUN - 100 * 3) + 4 * SWEEP
    assert estimate.bytes == 1e9 * (1 + 0.5 + 0.5) + 4 * 1e6


def test_finished_runs_take_no_time_and_correct_the_figures(config, tmp_path):
    study = plan(config)
    lora, other, *_ = study.runs
    assert lora.startswith("lora") and other.startswith("lora")
    size = finish(tmp_path, lora, seconds={"train": RUN, "test_after": RUN}, lr=0.1)
    estimate = Estimate(study, config, tmp_path)
    assert estimate.seconds(study.runs[other]) == 2 * RUN
    # Other methods take as much longer, as long as nothing else is known of them.
    assert estimate.seconds_left == 3 * 2 * RUN + 4 * SWEEP
    assert estimate.bytes == 3e9 + 2 * size + 2 * 1e6
    assert "4 runs, 1 of them finished" in estimate.text(1)


def test_runs_in_other_layers_are_estimated_by_their_like(config, tmp_path):
    layers = {"adapted_encoder_layers": [0, 6], "adapted_linears": ["all", "mlp"]}
    config["runs"] = [{"method": ["lora", "sumra"], "lr": 0.001, **layers}]
    study = plan(config)
    names = {
        tuple(run[name] for name in ("method", *layers)): name
        for name, run in study.runs.items()
    }
    for layers, ratio in ((0, 1), (6, 5)):
        finish(tmp_path, names["lora", layers, "all"], seconds={"train": ratio * RUN})
    estimate = Estimate(study, config, tmp_path)

    def ratio(*kind):
        return estimate.seconds(study.runs[names[kind]]) / RUN

    assert ratio("sumra", 6, "all") == 5
    assert ratio("sumra", 0, "all") == 1
    assert ratio("sumra", 6, "mlp") == 3  # nothing alike: the median of all
    # The states of other layers are other files.
    assert estimate.bytes > 2 * 3e9


def test_who_trains_nothing_takes_no_training_time(config, tmp_path):
    config["runs"] = [{"method": "unadapted"}]
    assert Estimate(plan(config), config, tmp_path).seconds_left == 10 + 50


def test_other_languages_have_their_own_hours(config, speech, tmp_path):
    config["runs"] = [{"method": "sumra", "init_from": "related"}]
    speech["shared_speech"]["hours"] = 0.1
    config |= speech
    estimate = Estimate(plan(config), config, tmp_path)
    donor = 10 + 100 * 0.1 * 3 + 50
    assert estimate.seconds_left == pytest.approx(RUN + 2 * donor + 2 * SWEEP)
    assert "2 runs on other languages" in estimate.text(1)


def test_a_best_rate_at_the_edge_and_a_changed_one_are_said(config, tmp_path):
    study = plan(config)
    name = next(iter(study.runs))
    group = study.runs[name].group
    assert "edge" not in Estimate(study, config, tmp_path).text(1)
    chosen = {"lr": 0.001, "losses": [], "at_edge": True}
    path = tmp_path / "sweep" / group / "lr.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(chosen))
    finish(tmp_path, name, lr=0.001)
    estimate = Estimate(study, config, tmp_path)
    assert f"edge of what was tried: {group} (0.001)" in estimate.text(1)
    assert estimate.outdated() == []
    path.write_text(json.dumps({**chosen, "lr": 0.0001}))
    assert Estimate(study, config, tmp_path).outdated() == [name]
