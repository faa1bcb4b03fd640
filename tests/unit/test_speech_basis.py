"""A from speech: what each strategy promises of its rows."""

import pytest
import torch
from languages import Languages
from torch import nn

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import trained_tensors
from speechbrain_sumra.adapter_file import load_adapter, read_adapter, write_adapter
from speechbrain_sumra.basis import stored_basis
from speechbrain_sumra.speech_basis import (
    STRATEGIES,
    make_speech_basis,
    mean_gradients,
    mean_inputs,
    principal_directions,
    share_down_projections,
    summed_directions,
)

WIDTH, OUTPUT, RANK = 6, 5, 3


@pytest.fixture
def speech():
    """Inputs that vary in two directions more than in others."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.1, 3.0, 0.1, 0.1, 0.1])
    return [torch.randn(4, WIDTH, generator=generator) * scale for _ in range(10)]


@pytest.fixture
def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(WIDTH, OUTPUT)).requires_grad_(False)


def describe(strategy, rank=RANK):
    settings = {"rank": rank, "strategy": strategy, "row_norm": "raw"}
    return {"settings": settings, "layers": ["0"]}


def losses(model, speech):
    return (model(x).square().mean() for x in speech)


def test_mean_inputs_is_the_second_moment_of_what_a_layer_reads(model, speech):
    found = mean_inputs(model, ["0"], losses(model, speech))["0"]
    x = torch.cat(speech)
    moment = x.T @ x
    torch.testing.assert_close(found, moment / moment.diagonal().mean())


def test_mean_gradients_weighs_each_loss_by_its_own_gradient(model, speech):
    found = mean_gradients(model, ["0"], losses(model, speech))["0"]
    gram = torch.zeros(WIDTH, WIDTH)
    for x in speech:
        weight = model[0].weight.detach().requires_grad_()
        loss = nn.functional.linear(x, weight, model[0].bias).square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        gram += gradient.T @ gradient
    torch.testing.assert_close(found, gram / gram.diagonal().mean())
    assert not model[0].weight.requires_grad


def test_hooks_are_gone_afterwards(model, speech):
    mean_inputs(model, ["0"], losses(model, speech))
    assert not model[0]._forward_pre_hooks


def test_principal_directions_lose_least_of_the_inputs(model, speech):
    statistics = mean_inputs(model, ["0"], losses(model, speech))["0"].double()
    rows = principal_directions(model[0].weight, statistics, RANK)
    torch.testing.assert_close(rows @ rows.T, torch.eye(RANK).double())
    kept = (rows @ statistics @ rows.T).trace()
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        other = torch.randn(WIDTH, RANK, generator=generator).double()
        other, _ = torch.linalg.qr(other)
        assert (other.T @ statistics @ other).trace() < kept


def test_summed_directions_are_orthogonal_and_complete(model, speech):
    statistics = mean_inputs(model, ["0"], losses(model, speech))["0"]
    rows = summed_directions(model[0].weight, statistics, RANK)
    gram = rows @ rows.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()))
    scaled = model[0].weight.double() @ statistics.double()
    nuclear = torch.linalg.svdvals(scaled).sum() / statistics.diagonal().mean()
    torch.testing.assert_close(gram.trace(), nuclear.double())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_basis_depends_on_speech_and_on_nothing_else(model, speech, strategy):
    made = [
        make_speech_basis(model, describe(strategy), losses(model, heard))
        for heard in (speech, speech, [x.flip(1) for x in speech])
    ]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint
    assert made[0].tensors["0.down_proj"].shape == (RANK, WIDTH)


def test_what_is_not_made_from_speech_is_refused(model):
    with pytest.raises(ValueError, match="'block' is not made from speech"):
        make_speech_basis(model, describe("block"), [])
    with pytest.raises(ValueError, match="rank must be an integer from 1 to 5"):
        make_speech_basis(model, describe("inputs", rank=6), [])


def test_a_layer_without_its_basis_says_how_to_make_it():
    with pytest.raises(ValueError, match="make_basis.py"):
        SumRA(nn.Linear(4, 4), rank=2, strategy="inputs")


def test_an_adapter_on_its_own_a_as_a_basis_is_the_same_model(tiny_whisper, tmp_path):
    languages = Languages(tmp_path, tiny_whisper)
    trained = languages.model(1, train_down_proj=True)
    path = languages.save("together", trained)
    basis, metadata, tensors = share_down_projections(*read_adapter(path))
    write_adapter(path, metadata, tensors, "fp32")

    description = basis.description
    folder = languages.places["basis_folder"]
    stored_basis(folder, description, lambda: basis)
    shared = languages.model(2, strategy="learned")
    load_adapter(path, shared)
    assert not any("down_proj" in name for name in trained_tensors(shared))
    states, tokens = torch.randn(1, 9, 64), torch.tensor([[1, 2, 3]])
    states = torch.randn(1, 9, trained.adapted_model.config.d_model)
    with torch.no_grad():
        _, expected, _ = trained(None, tokens, encoder_states=states)
        _, found, _ = shared(None, tokens, encoder_states=states)
    assert torch.equal(found, expected)


def test_an_adapter_on_a_shared_a_has_none_of_its_own(tiny_whisper, tmp_path):
    path = Languages(tmp_path, tiny_whisper).make("xx", 1)
    with pytest.raises(ValueError, match="train_down_proj: False"):
        share_down_projections(*read_adapter(path))
