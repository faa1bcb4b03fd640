"""A config gives the runs that it means, each once, or is refused."""

import itertools

import pytest
from run import ConfigError
from study import options_of, plan

LANGUAGES = ("eo", "ia", "fy-NL", "mhr", "kmr")


def test_an_entry_means_all_combinations(config):
    config["runs"] = [{"method": ["lora", "sumra"], "rank": [2, 4], "seed": [1, 2, 3]}]
    runs = plan(config).runs.values()
    found = [(run.method, run["rank"], run["seed"]) for run in runs]
    expected = itertools.product(["lora", "sumra"], [2, 4], [1, 2, 3])
    assert sorted(found) == sorted(expected)
    assert all(run["locale"] == "hsb" for run in runs)


def test_entries_that_mean_the_same_run_give_one(config):
    once = plan(config)
    config["runs"] += [
        {"method": "sumra", "seed": 2, "strategy": "interleave", "rank": 32},
        {"method": "sumra", "seed": [2, 2]},
    ]
    assert plan(config) == once


def test_a_learning_rate_is_chosen_once_for_seeds_locales_and_hours(config):
    config["runs"] = [
        {
            "method": "lora",
            "seed": [1, 2],
            "locale": ["hsb", "eo"],
            "train_hours": [1, 2],
        }
    ]
    study = plan(config)
    assert len(study.runs) == 8
    assert {run.group for run in study.runs.values()} == set(study.sweeps)
    ((group, swept),) = study.sweeps.items()
    assert group == "lora_whisper_base/rank-32"
    assert [run["lr"] for run in swept.values()] == [0.0001, 0.001]
    assert {run["seed"] for run in swept.values()} == {7}


def test_a_given_learning_rate_needs_no_sweep(config):
    config["defaults"]["lr"] = 0.01
    del config["sweep"]
    study = plan(config)
    assert len(study.runs) == 4 and not study.sweeps
    assert all("lr-0.01" in name for name in study.runs)


def test_a_warm_start_needs_a_run_of_each_language(config, speech):
    config["runs"] = [
        {
            "method": "sumra",
            "init_from": "related",
            "language": "polish",
            "seed": [1, 2],
        }
    ]
    study = plan({**config, **speech})
    assert [run["locale"] for run in study.donors.values()] == ["cs", "pl"]
    for run in study.donors.values():
        assert run["language"] == "own" and run["init_from"] is None
        assert run.group in study.sweeps
    # The learning rate is that of the runs which start from them.
    (swept,) = study.sweeps.values()
    assert {run["language"] for run in swept.values()} == {"polish"}


def test_a_file_to_start_from_needs_no_other_run(config, speech):
    config["runs"] = [{"method": "sumra", "init_from": "runs/adapter.safetensors"}]
    assert not plan({**config, **speech}).donors


def test_a_learned_basis_needs_a_run_on_all_languages(config, speech):
    config["runs"] = [{"method": "sumra", "strategy": "learned", "rank": 8}]
    study = plan({**config, **speech})
    (learner,) = study.donors.values()
    assert learner.method == "sumra_train_a" and learner["rank"] == 8
    assert learner["locale"] == "cs+pl+tr" and learner["language"] == "own"
    assert learner["strategy"] == "interleave"
    assert set(study.sweeps) == {
        "sumra_whisper_base/rank-8_strategy-learned",
        "sumra_train_a_whisper_base/rank-8",
    }
    for swept in study.sweeps.values():
        assert all(run["language"] == "new" for run in swept.values())


@pytest.mark.parametrize("entry", [{"strategy": "inputs"}, {"init_from": "related"}])
@pytest.mark.parametrize("missing", ["data_folder", "locales"])
def test_other_languages_must_be_somewhere(config, speech, entry, missing):
    del speech["shared_speech"][missing]
    config["runs"] = [{"method": "sumra", **entry}]
    with pytest.raises(ConfigError, match=f"expected {missing} under shared_speech"):
        plan({**config, **speech})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"run": []}, "Unknown key 'run' in the config; expected name"),
        ({"name": None}, "Expected 'name'"),
        ({"data_folder": ""}, "Expected 'data_folder'"),
        ({"runs": []}, "Expected 'runs'"),
        ({"runs": ["lora"]}, "Expected settings as an entry of runs, found 'lora'"),
        ({"runs": [{"method": "lora", "seed": []}]}, "Expected a value of 'seed'"),
        ({"runs": [{"rank": 2}]}, "Expected a method in the entry"),
        ({"runs": [{"method": "lora", "rnak": 2}]}, "no setting 'rnak'"),
        ({"options": {"epochs": 2}}, "lora_whisper_base has no setting 'epochs'"),
        ({"sweep": {"lr": [{"values": [1, 2]}]}}, "expected locale under sweep"),
        ({"sweep": None}, "No learning rate for lora_whisper_base/rank-32"),
        (
            {"sweep": {"locale": "hsb", "lr": [{"rnak": 2, "values": [1, 2]}]}},
            "Unknown 'rnak' in the learning rates",
        ),
    ],
)
def test_a_bad_config_is_one_clear_error(config, wrong, message):
    with pytest.raises(ConfigError, match=message):
        plan({**config, **wrong})


def test_two_runs_never_share_a_folder(config):
    config["runs"] = [{"method": "sumra", "init_from": ["a/b", "a b"]}]
    with pytest.raises(ConfigError, match="Two different runs would be called"):
        plan(config)


def test_conditions_may_name_settings_of_methods_that_no_run_has(config):
    config["runs"] = [{"method": "lora"}]
    config["sweep"]["lr"].append({"row_norm": "unit", "values": [0.1, 0.2]})
    (swept,) = plan(config).sweeps.values()
    assert [run["lr"] for run in swept.values()] == [0.0001, 0.001]


def test_places_of_the_config_are_options_of_all_runs(config):
    config.update(options={"max_tokens": 5}, whisper_hub="tiny")
    assert options_of(config) == {
        "runs_folder": "runs",
        "max_tokens": 5,
        "data_folder": "data",
        "whisper_hub": "tiny",
    }


@pytest.mark.parametrize("name", ["small", "smoke", "table2", "table3", "table4"])
def test_shipped_configs_try_enough_learning_rates(shipped, name):
    study = plan(shipped(name))
    assert study.runs
    least = 2 if name == "smoke" else 5
    assert all(len(swept) >= least for swept in study.sweeps.values())


def test_table2_is_the_papers_grid(shipped):
    runs = plan(shipped("table2")).runs.values()
    found = sorted((r.model, r.method, r["rank"], r["locale"]) for r in runs)
    expected = []
    for model, width in {"whisper_small": 768, "whisper_large_v2": 1280}.items():
        # Whoever has no adapters has the rank of the experiment file.
        cells = [("unadapted", 32), ("ft", 32), ("vera", width)]
        methods = ("lora", "vera", "lora_fa", "dora", "pissa", "corda", "sumra")
        cells += itertools.product(methods, (2, 32))
        expected += [(model, *cell, locale) for cell in cells for locale in LANGUAGES]
    assert found == sorted(expected)
    assert {r["train_hours"] for r in runs} == {10}


def test_tables_3_and_4_share_runs_with_table_2(shipped):
    configs = [shipped(f"table{n}") for n in (2, 3, 4)]
    assert {config["study"] for config in configs} == {"paper"}
    table2, table3, table4 = (set(plan(config).runs) for config in configs)
    assert len(table3) == 4 * 5 and len(table3 & table2) == 2 * 5
    assert len(table4) == 4 * 3 and len(table4 & table2) == 3


def test_small_holds_the_study(shipped):
    study = plan(shipped("small"))
    runs = study.runs.values()

    def values(name, **conditions):
        fits = (r for r in runs if all(r[k] == v for k, v in conditions.items()))
        return {r[name] for r in fits}

    full = {"locale": "hsb", "train_hours": 2, "init_from": None}
    for method in ("lora", "lora_fa", "sumra"):
        for rank in (2, 32):
            assert values("seed", method=method, rank=rank, **full) == {1, 2, 3}
    everyone = {"unadapted", "ft", "lora", "vera", "lora_fa", "dora", "pissa", "corda"}
    assert everyone | {"sumra"} <= values("method", **full)
    in_decoder = {**full, "adapted_encoder_layers": 0}
    assert {2, 32, 64} == values("rank", method="sumra", **in_decoder)
    in_all = {**full, "adapted_encoder_layers": 6}
    assert {16, 32} == values("rank", method="sumra", **in_all)
    strategies = {"interleave", "block", "greedy", "karmarkar_karp"}
    assert strategies == values("strategy", method="sumra", row_norm="unit", **full)
    speech = {"inputs", "gradients", "corda", "learned"}
    assert strategies | speech == values("strategy", method="sumra", **full)
    for method in ("lora", "sumra", "sumra_train_a"):
        hours = values("train_hours", method=method, rank=32, locale="hsb", seed=1)
        assert hours == {0.2, 0.5, 1, 2}
    assert {"new", "none", "polish"} == values("language", method="sumra", **full)
    assert {True, False} == values("train_norms", method="sumra", **full)
    starts = {None, "related", "unrelated", "learned"}
    assert starts == values("init_from", method="sumra")
    assert {None, "together"} == values("init_from", method="lora")
    assert {"hsb", "eo", "ia", "fy-NL"} == values("locale", method="sumra")
