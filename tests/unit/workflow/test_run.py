"""Runs are named after what differs from their experiment, and only that."""

import pytest
from run import NOT_TUNED, ConfigError, command_line, experiment_of, make_run

LORA = {"method": "lora", "model": "whisper_base", "locale": "hsb", "seed": 1}


def test_the_experiment_files_own_values_make_no_other_run():
    own = experiment_of("lora", "whisper_base")
    same = {"language": own["language"], "train_hours": own["train_hours"]}
    assert make_run({**LORA, **same}) == make_run(LORA)
    assert make_run({**LORA, "language": "none"}) != make_run(LORA)
    assert make_run({**LORA, "train_norms": False}).id.endswith(
        "/train_norms-False_seed-1"
    )


def test_without_adapters_there_is_no_rank():
    ft = {**LORA, "method": "ft"}
    assert make_run({**ft, "rank": 2}) == make_run(ft)
    assert make_run({**LORA, "rank": 2}) != make_run(LORA)


def test_a_group_is_blind_to_what_is_not_tuned_and_sees_the_rest():
    group = make_run(LORA).group
    values = {"locale": "eo", "seed": 3, "train_hours": 1, "init_from": "a.safetensors"}
    assert set(values) <= set(NOT_TUNED)
    for name, value in values.items():
        run = make_run({**LORA, name: value})
        assert run.group == group and run.id != make_run(LORA).id
    for name, value in {"rank": 2, "language": "polish", "train_norms": False}.items():
        assert make_run({**LORA, name: value}).group != group


def test_who_needs_no_learning_rate_has_no_group():
    assert make_run({**LORA, "lr": 0.1}).group is None
    assert make_run({**LORA, "method": "unadapted"}).group is None
    assert make_run({**LORA, "method": "ft"}).group is not None
    with pytest.raises(ConfigError, match="model_average cannot be swept"):
        make_run({**LORA, "method": "model_average"})
    assert make_run({**LORA, "method": "model_average", "lr": 0.1}).group is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"method": "lorra"}, "No experiment hparams/lorra_whisper_base.yaml.*lora_fa"),
        ({"model": "whisper_huge"}, "models: whisper_base"),
        ({"strategy": "block"}, "lora_whisper_base has no setting 'strategy'"),
    ],
)
def test_unknown_names_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make_run({**LORA, **wrong})


def test_places_count_more_than_the_run_and_the_run_more_than_options():
    run = make_run({**LORA, "train_hours": 1})
    options = {"train_hours": 5, "seed": 5, "test_hours": 0.1}
    file, *arguments, last = command_line(run, options, seed=9, lr=0.00005, locale=None)
    assert file.endswith("hparams/lora_whisper_base.yaml") and last == "--noprogressbar"
    assert sorted(arguments) == [
        "--locale=hsb",
        "--lr=0.00005",
        "--seed=9",
        "--test_hours=0.1",
        "--train_hours=1",
    ]
