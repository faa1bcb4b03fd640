"""A run is what its settings say; runs that differ in the seed are one group."""

import json

import pytest

from speechbrain_sumra.report.runs import STEPS, ReportError, group_runs
from speechbrain_sumra.report.summaries import find_runs


def only_run(results):
    (run,) = find_runs(results)
    return run


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("lora_fa", {}, "lora_fa"),
        ("sumra", {}, "sumra"),
        ("sumra", {"adapter": {"train_down_proj": True}}, "sumra_train_a"),
        ("model_average", {"validations": []}, "model_average"),
        ("model_average", {"adapter": {"strategy": "slice:1"}}, "sumra"),
        ("my_own", {}, "my_own"),
    ],
)
def test_the_method_follows_from_the_settings(
    results, add_run, method, changes, expected
):
    add_run(method, **changes)
    assert only_run(results).method == expected


def test_without_adapters_there_is_no_rank(results, add_run):
    add_run("ft", rank=32)
    assert only_run(results).rank is None


def test_seeds_are_grouped_in_their_order(results, add_run):
    for seed, errors in ((3, (4, 4, 4, 4)), (1, (0, 0, 0, 0)), (2, (2, 2, 2, 4))):
        add_run(seed=seed, errors=errors)
    (group,) = group_runs(find_runs(results))
    assert [run.seed for run in group.runs] == [1, 2, 3]
    assert group.wers == [0.0, 62.5, 100.0]
    assert group.errors.tolist() == pytest.approx([2, 2, 2, 8 / 3])


def test_the_seed_of_veras_matrices_does_not_divide_a_group(results, add_run):
    for seed in (1, 2):
        add_run("vera", seed=seed, adapter={"projection_prng_key": seed})
    assert len(group_runs(find_runs(results))) == 1


def test_a_setting_that_is_newer_than_a_run_does_not_divide_a_group(results, add_run):
    new = {"adapted_encoder_layers": 0}
    add_run(seed=1, label_smoothing=0.0, adapter=new, **new)
    path = results / add_run(seed=2)
    summary = json.loads(path.read_text())
    del summary["label_smoothing"]
    path.write_text(json.dumps(summary))
    (group,) = group_runs(find_runs(results))
    assert [run.setting("label_smoothing") for run in group.runs] == [0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e-4},
        {"rank": 2},
        {"method": "dora"},
        {"locale": "eo"},
        {"train_hours": 1},
        {"number_of_epochs": 1},
        {"label_smoothing": 0.1},
        {"language": "none"},
        {"train_norms": False},
        {"adapted_encoder_layers": 2},
        {"adapted_linears": "mlp"},
        {"batch_size": 8},
        {"init_from": {"a.safetensors": 1.0}},
        {"adapter": {"row_norm": "unit"}},
        {"data_hash": "e" * 64},
        {"errors": None},
    ],
)
def test_any_other_setting_divides(results, add_run, changes):
    add_run()
    add_run(**{"seed": 2, **changes})
    assert len(group_runs(find_runs(results))) == 2


def test_one_data_hash_means_one_test_set(results, add_run):
    add_run()
    add_run("dora", words=[4, 4, 4, 5])
    with pytest.raises(ReportError, match="one data_hash but other test_words"):
        group_runs(find_runs(results))


def test_a_mean_with_a_diverged_run_is_infinite(results, add_run):
    add_run(errors=None, best_valid_loss=float("nan"))
    add_run(errors=None, best_valid_loss=1.0, seed=2)
    (group,) = group_runs(find_runs(results))
    assert group.valid_loss == float("inf")


def test_what_a_step_is_made_of_is_written_and_read():
    import train

    assert set(train.STEPS) == STEPS.keys()
