"""SORSA: unchanged at step 0, its formulas on any singular vectors, merging."""

from functools import partial

import numpy as np
import pytest
import torch
from speechbrain.nnet.adapters import AdaptedModel
from torch import nn

from speechbrain_sumra import SORSA

TALL, WIDE, SQUARE = (24, 40), (40, 24), (24, 24)  # inputs, outputs


def linear_of(shape=TALL, **options):
    torch.manual_seed(0)
    return nn.Linear(*shape, **options)


def perturb(*parameters):
    torch.manual_seed(1)
    for parameter in parameters:
        parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
@pytest.mark.parametrize("rank", [1, 5, 24])
def test_output_is_unchanged_at_step_0(shape, rank):
    layer = linear_of(shape)
    x = torch.randn(2, 7, shape[0])
    before = layer(x)
    torch.testing.assert_close(SORSA(layer, rank)(x), before, rtol=0, atol=1e-5)


class Reference:
    """SORSA written out of its formulas, on numpy's singular vectors.

    The signs of singular vectors are free; they are taken from ``like``.
    """

    def __init__(self, weight, bias, rank, gamma, like):
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
        signs = np.sign((right * like).sum(axis=1))
        left, right = left * signs, right * signs[:, None]
        self.residual = torch.tensor(weight - left @ np.diag(values) @ right)
        self.bias, self.gamma, self.identity = bias, gamma, torch.eye(rank).double()
        self.parameters = [
            torch.tensor(value, requires_grad=True) for value in (left, values, right)
        ]

    def __call__(self, x):
        left, values, right = self.parameters
        return x @ (self.residual + left @ torch.diag(values) @ right).T + self.bias

    def regularizer(self):
        left, _, right = self.parameters
        of_left = (left.T @ left - self.identity).pow(2).sum()
        return self.gamma * (of_left + (right @ right.T - self.identity).pow(2).sum())


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.SGD, lr=0.5), partial(torch.optim.AdamW, lr=0.1)]
)
def test_three_steps_of_training_are_the_formulas(shape, optimizer):
    layer = linear_of(shape).double()
    weight, bias = layer.weight.detach().clone().numpy(), layer.bias.detach().clone()
    adapter = SORSA(layer, rank=4, gamma=0.01)
    right = adapter.adapter_down_proj.weight.detach().numpy()
    reference = Reference(weight, bias, 4, 0.01, like=right)
    parameters = [
        adapter.adapter_up_proj.weight,
        adapter.adapter_scale,
        adapter.adapter_down_proj.weight,
    ]
    optimizers = [optimizer(parameters), optimizer(reference.parameters)]
    x, target = torch.randn(9, shape[0]).double(), torch.randn(9, shape[1]).double()
    for _ in range(3):
        for model, its in zip((adapter, reference), optimizers, strict=True):
            its.zero_grad()
            loss = (model(x) - target).square().mean() + model.regularizer()
            loss.backward()
        for own, other in zip(parameters, reference.parameters, strict=True):
            torch.testing.assert_close(own.grad, other.grad)
        for its in optimizers:
            its.step()
    torch.testing.assert_close(adapter(x), reference(x))
    torch.testing.assert_close(adapter.regularizer(), reference.regularizer())
    torch.testing.assert_close(layer.weight, reference.residual)
    assert not np.allclose(reference(x).detach(), x @ weight.T + bias.numpy())


def test_regularizer_is_gamma_times_the_departure_from_orthonormal():
    adapter = SORSA(linear_of(), rank=3, gamma=0.25)
    perturb(adapter.adapter_up_proj.weight, adapter.adapter_down_proj.weight)
    left = adapter.adapter_up_proj.weight.detach().numpy()
    right = adapter.adapter_down_proj.weight.detach().numpy()
    departures = [left.T @ left - np.eye(3), right @ right.T - np.eye(3)]
    expected = 0.25 * sum(np.linalg.norm(d, "fro") ** 2 for d in departures)
    assert adapter.regularizer().item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


@pytest.mark.parametrize("part", ["adapter_up_proj", "adapter_down_proj"])
def test_regularizer_pulls_what_is_not_orthonormal(part):
    adapter = SORSA(linear_of(), rank=3)
    assert adapter.regularizer() < 1e-12
    weight = getattr(adapter, part).weight
    perturb(weight)
    adapter.regularizer().backward()
    gradients = {n: p.grad for n, p in adapter.named_parameters() if p.grad is not None}
    assert gradients[f"{part}.weight"].abs().max() > 1e-5
    others = [g for name, g in gradients.items() if not name.startswith(part)]
    assert all(g.abs().max() < 1e-8 for g in others)


def test_what_is_trained():
    layer = linear_of()
    adapter = SORSA(layer, rank=3)
    trained = {name for name, p in adapter.named_parameters() if p.requires_grad}
    assert trained == {
        "adapter_down_proj.weight",
        "adapter_scale",
        "adapter_up_proj.weight",
    }
    adapter(torch.randn(5, 24)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in adapter.parameters() if p.requires_grad)
    assert layer.weight.grad is None and layer.bias.grad is None


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_layer_does_the_same(shape, bias):
    layer = linear_of(shape, bias=bias)
    names = list(layer.state_dict())
    adapter = SORSA(layer, rank=4)
    perturb(*(p for p in adapter.parameters() if p.requires_grad))
    x = torch.randn(5, shape[0])
    expected = adapter(x)
    merged = adapter.merge()
    assert type(merged) is nn.Linear and list(merged.state_dict()) == names
    torch.testing.assert_close(merged(x), expected, rtol=0, atol=1e-5)
    assert torch.equal(adapter(x), expected)


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
def test_merging_at_step_0_leaves_no_residue(shape):
    layer = linear_of(shape)
    before = layer.weight.detach().clone()
    adapter = SORSA(layer, rank=4)
    assert (layer.weight - before).abs().max() > 0.01
    torch.testing.assert_close(adapter.merge().weight, before, rtol=0, atol=1e-6)


def test_prepared_triplets_are_used():
    layer = linear_of()
    triplets, _ = SORSA.prepare(layer.weight, 3)
    triplets["values"] = triplets["values"] * 2
    adapter = SORSA(layer, rank=3, **triplets)
    assert torch.equal(adapter.adapter_scale, triplets["values"].float())


@pytest.mark.parametrize("rank, energy", [(1, 0.8), (2, 1.0)])
def test_principal_energy_is_the_share_of_squared_singular_values(rank, energy):
    weight = torch.diag(torch.tensor([1.0, 2.0]))
    assert SORSA.prepare(weight, rank)[1] == {"principal_energy": energy}


def test_on_the_meta_device_nothing_is_computed():
    adapter = SORSA(nn.Linear(24, 40, device="meta"), rank=3)
    assert all(parameter.is_meta for parameter in adapter.parameters())


@pytest.mark.parametrize("rank", [-1, 0, 25])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_unusable_rank(shape, rank):
    with pytest.raises(ValueError, match=f"integer from 1 to 24 .*got {rank}"):
        SORSA(linear_of(shape), rank=rank)


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 4, 3), nn.Embedding(4, 4), "fc1"])
def test_only_linear_layers(layer):
    with pytest.raises(TypeError, match="torch.nn.Linear"):
        SORSA(layer)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weight(value):
    layer = linear_of()
    layer.weight.data[0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        SORSA(layer, rank=2)


def adapted_model():
    model = nn.Sequential(linear_of(), nn.LayerNorm(40))
    return AdaptedModel(
        model,
        SORSA,
        all_linear=True,
        unfrozen_layers=["1"],
        adapter_kwargs={"rank": 3},
    )


def test_drop_in_for_speechbrain():
    trained = {n for n, p in adapted_model().named_parameters() if p.requires_grad}
    assert trained == {
        "adapted_model.0.adapter_down_proj.weight",
        "adapted_model.0.adapter_scale",
        "adapted_model.0.adapter_up_proj.weight",
        "adapted_model.1.weight",
        "adapted_model.1.bias",
    }


def test_speechbrain_checkpoint_restores_outputs_exactly(tmp_path):
    """``AdaptedModel`` saves what is trained; W_r is the same when made again."""
    first, second = adapted_model(), adapted_model()
    perturb(*(p for p in first.parameters() if p.requires_grad))
    first.saver(tmp_path / "model.ckpt")
    x = torch.randn(5, 24)
    assert not torch.equal(first(x), second(x))
    second.loader(tmp_path / "model.ckpt", end_of_epoch=True)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("rank", [1.5, True, 0])
def test_rank_is_an_integer(rank):
    with pytest.raises(ValueError, match="integer from 1 to 6"):
        SORSA(nn.Linear(6, 8), rank=rank)
