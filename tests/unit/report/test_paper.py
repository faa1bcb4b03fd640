"""The paper's figures stand beside runs that they can be compared with."""

import pytest

from speechbrain_sumra.report import paper
from speechbrain_sumra.report.paper import Place, printed, printed_change, printed_wer
from speechbrain_sumra.report.runs import NAMES
from speechbrain_sumra.report.summaries import find_runs

MODELS = ("whisper-small", "whisper-large-v2")
COMPARED = ("lora", "vera", "lora_fa", "dora", "pissa", "corda", "sumra")
SMALL = {"base_model": "openai/whisper-small", "locale": "eo", "train_hours": 10.0}


def only_run(results):
    (run,) = find_runs(results)
    return run


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("locale", paper.LOCALES)
def test_table_2_has_every_method_rank_and_language(model, locale):
    for method in COMPARED:
        for rank in (2, 32):
            assert Place(model, NAMES[method], rank, locale, 10) in printed(2)
    assert Place(model, "FT", None, locale, 10) in printed(2)
    assert (Place(model, "unadapted", None, locale, 10) in printed(2)) == (
        model == "whisper-small"
    )


def test_table_3_and_4_have_sumras_kinds():
    for strategy in ("block", "interleave", "greedy"):
        for locale in paper.LOCALES:
            place = Place(MODELS[0], f"SumRA ({strategy})", 32, locale, 10)
            assert place in printed(3)
    assert len(printed(3)) == 20
    assert len(printed(4)) == 12
    assert printed(4)[Place(MODELS[0], "SumRA (train A)", 32, "eo", 100)] == 13.02


def test_tables_agree_where_they_repeat_each_other():
    for table in (3, 4):
        for place, wer in printed(table).items():
            method = place.method
            if method in ("SumRA (interleave)", "SumRA (freeze A)"):
                method = "SumRA"
            same = place._replace(method=method)
            assert printed(2).get(same, wer) == wer


@pytest.mark.parametrize(
    ("table", "method", "changes", "wer"),
    [
        (2, "sumra", {}, 20.77),
        (2, "sumra", {"rank": 2}, 26.29),
        (2, "ft", {}, 18.89),
        (2, "unadapted", {"train_hours": 0.1}, 94.37),
        (2, "lora", {"base_model": "/models/whisper-large-v2/"}, 14.42),
        (2, "lora", {"train_hours_kept": 5.3}, 23.39),
        (2, "lora", {"train_hours": 2.0}, None),
        (2, "lora", {"train_hours": 50}, None),
        (2, "lora", {"rank": 8}, None),
        (2, "lora", {"locale": "hsb"}, None),
        (2, "lora", {"base_model": "openai/whisper-base"}, None),
        (2, "my_own", {}, None),
        (3, "sumra", {"adapter": {"strategy": "greedy"}}, 20.73),
        (3, "sumra", {"adapter": {"strategy": "inputs"}}, None),
        (3, "sumra", {"adapter": {"row_norm": "unit"}}, None),
        (3, "sumra", {"init_from": "adapters/"}, None),
        (4, "sumra", {"train_hours": 50}, 14.49),
        (4, "sumra", {"adapter": {"train_down_proj": True}}, 20.14),
        (4, "ft", {"train_hours": 100}, 13.62),
        (4, "lora", {"rank": 2}, None),
    ],
)
def test_a_figure_is_of_the_same_experiment(
    results, add_run, table, method, changes, wer
):
    add_run(method, **{**SMALL, **changes})
    assert printed_wer(table, only_run(results)) == wer


def test_the_papers_change_is_the_mean_over_its_languages(results, add_run):
    add_run("sumra")
    # 20.77 / 23.39, 13.38 / 15.31, 33.37 / 39.34, 36.30 / 40.63, 44.47 / 48.51
    changes = (-11.2014, -12.6061, -15.1754, -10.6572, -8.3282)
    run = only_run(results)
    assert printed_change(2, run) == pytest.approx(sum(changes) / 5, abs=1e-3)
    assert printed_change(3, run) == pytest.approx(sum(changes) / 5, abs=1e-3)
    assert printed_change(4, run) is None


@pytest.mark.parametrize(
    ("method", "rank"), [("lora", 32), ("ft", 32), ("sumra", 8), ("my_own", 32)]
)
def test_without_a_lora_beside_it_there_is_no_change(results, add_run, method, rank):
    add_run(method, rank=rank)
    assert printed_change(2, only_run(results)) is None
