"""A language that starts from others: their weighted mean, or nothing at all."""

import pytest
import torch
from languages import Languages

from speechbrain_sumra.adapted import trained_tensors
from speechbrain_sumra.adapter_file import AdapterFileError, read_adapter
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.training.warm_start import warm_start


@pytest.fixture
def languages(tiny_whisper, tmp_path):
    return Languages(tmp_path, tiny_whisper)


@pytest.fixture
def others(languages):
    return {name: languages.make(name, i) for i, name in enumerate(("cs", "pl"))}


def values(model):
    return {name: p.detach().clone() for name, p in trained_tensors(model).items()}


def test_weights_are_those_of_a_mean(languages, others):
    model = languages.model(7, language="polish")
    before = values(model)
    weights = warm_start(model, {str(others["cs"]): 3, str(others["pl"]): 1})
    assert list(weights.values()) == [0.75, 0.25]
    cs, pl = (read_adapter(others[name])[1] for name in ("cs", "pl"))
    after = values(model)
    assert after.keys() == before.keys()
    for name, value in after.items():
        torch.testing.assert_close(value, 0.75 * cs[name] + 0.25 * pl[name])


def test_a_folder_is_the_plain_mean_of_what_is_in_it(languages, others):
    model = languages.model(7)
    weights = warm_start(model, languages.folder)
    assert set(weights) == {str(path) for path in others.values()}
    assert set(weights.values()) == {0.5}


def test_a_single_adapter_may_have_an_a_of_its_own(languages):
    path = languages.make("cs", 1, method=PeftAdapters)
    model = languages.model(2, method=PeftAdapters)
    warm_start(model, path)
    _, tensors = read_adapter(path)
    assert tensors.keys() == values(model).keys()
    assert all(torch.equal(tensors[n], v) for n, v in values(model).items())


def test_its_own_language_token_stays_where_others_have_none(languages):
    path = languages.make("cs", 1, language="czech")
    model = languages.model(2)
    (token,) = (name for name in values(model) if "new_token" in name)
    before = values(model)
    warm_start(model, path)
    assert torch.equal(values(model)[token], before[token])
    assert not any(
        torch.equal(value, before[name])
        for name, value in values(model).items()
        if name != token
    )


@pytest.mark.parametrize("settings", [{"rank": 3}, {"strategy": "block"}])
def test_another_basis_is_refused_and_nothing_changed(languages, others, settings):
    model = languages.model(7, **settings)
    before = values(model)
    with pytest.raises(AdapterFileError, match="Cannot start from .*cs"):
        warm_start(model, others["cs"])
    assert all(torch.equal(before[n], v) for n, v in values(model).items())


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": "much"}, {"a": -1}])
def test_weights_without_a_sum_are_refused(languages, weights):
    with pytest.raises(ValueError, match="sum is above 0"):
        warm_start(languages.model(7), weights)
