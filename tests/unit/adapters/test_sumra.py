"""SumRA: unchanged at step 0, B alone trained, a drop-in for SpeechBrain."""

from io import StringIO

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.nnet.adapters import AdaptedModel
from torch import nn

from speechbrain_sumra import SumRA
from speechbrain_sumra.allocation import STRATEGIES
from speechbrain_sumra.basis import sum_basis


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(24, 40)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_output_is_unchanged_at_step_0(linear, strategy):
    x = torch.randn(2, 7, 24)
    assert torch.equal(SumRA(linear, rank=5, strategy=strategy)(x), linear(x))


def test_output_is_the_formula(linear):
    adapter = SumRA(linear, rank=4, alpha=8)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    x = torch.randn(3, 24)
    a = sum_basis(linear.weight, 4).float()
    b = adapter.adapter_up_proj.weight
    expected = x @ linear.weight.T + linear.bias + 8 / 4 * x @ a.T @ b.T
    torch.testing.assert_close(adapter(x), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (3, 24), (2, 5, 24)])
def test_gradients_are_those_of_the_formula(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias).double()
    adapter = SumRA(layer, rank=4, alpha=8)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    a, b = adapter.adapter_down_proj.weight, adapter.adapter_up_proj.weight
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(*shape[:-1], 40, dtype=torch.float64)
    expected = torch.autograd.grad(layer(x) + 2 * x @ a.T @ b.T, (x, b), upstream)
    found = torch.autograd.grad(adapter(x), (x, b), upstream)
    torch.testing.assert_close(found, expected)


def test_autocast_computes_in_bfloat16_and_trains_in_float32(linear):
    adapter = SumRA(linear, rank=4)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    x = torch.randn(3, 24, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = adapter(x)
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert x.grad.dtype == adapter.adapter_up_proj.weight.grad.dtype == torch.float32
    torch.testing.assert_close(output.float(), adapter(x), rtol=3e-2, atol=5e-2)


def test_alpha_is_rank_by_default(linear):
    assert SumRA(linear, rank=4).scaling == 1.0


@pytest.mark.parametrize("train_down_proj", [False, True])
def test_what_is_trained(linear, train_down_proj):
    adapter = SumRA(linear, rank=4, train_down_proj=train_down_proj)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    adapter(torch.randn(3, 24)).square().sum().backward()
    assert adapter.adapter_up_proj.weight.grad.abs().sum() > 0
    assert (adapter.adapter_down_proj.weight.grad is not None) == train_down_proj
    assert linear.weight.grad is None and linear.bias.grad is None


def test_input_of_frozen_a_is_not_kept_for_backward(linear):
    adapter = SumRA(linear, rank=4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(tuple(t.shape)) or t, lambda t: t
    ):
        adapter(torch.randn(7, 24))
    assert (7, 24) not in kept and (7, 4) in kept


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_layer_that_is_trained_as_well_has_gradients(linear, name):
    adapter = SumRA(linear, rank=4)
    trained = getattr(adapter.pretrained_module, name).requires_grad_(True)
    adapter(torch.randn(3, 24)).sum().backward()
    assert trained.grad is not None
    assert adapter.adapter_up_proj.weight.grad is not None


def test_given_a_is_used(linear):
    a = torch.randn(4, 24)
    adapter = SumRA(linear, rank=4, down_proj=a)
    assert torch.equal(adapter.adapter_down_proj.weight, a)
    with pytest.raises(ValueError, match=r"shape \(4, 24\)"):
        SumRA(linear, rank=4, down_proj=a.T)


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 4, 3), nn.Embedding(4, 4), "fc1"])
def test_only_linear_layers(layer):
    with pytest.raises(TypeError, match="torch.nn.Linear"):
        SumRA(layer)


@pytest.mark.parametrize("rank", [0, 25, 1.5])
def test_unusable_rank(linear, rank):
    with pytest.raises(ValueError, match="integer from 1 to 24"):
        SumRA(linear, rank=rank)


def test_unknown_strategy(linear):
    with pytest.raises(ValueError, match="Unknown strategy 'sum'"):
        SumRA(linear, rank=2, strategy="sum")


def test_damaged_weight(linear):
    linear.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        SumRA(linear, rank=2)


YAML = """
model: !new:torch.nn.Sequential
    - !new:torch.nn.Linear [24, 24]
    - !new:torch.nn.LayerNorm [24]
adapted: !new:speechbrain.nnet.adapters.AdaptedModel
    model_to_adapt: !ref <model>
    adapter_class: !name:speechbrain_sumra.SumRA
    all_linear: True
    unfrozen_layers: ["1"]
    adapter_kwargs:
        rank: 3
        strategy: greedy
"""


def test_drop_in_for_speechbrain_in_yaml():
    model = load_hyperpyyaml(StringIO(YAML))["adapted"]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        "adapted_model.0.adapter_up_proj.weight",
        "adapted_model.1.weight",
        "adapted_model.1.bias",
    }


def test_speechbrain_checkpoint_restores_outputs_exactly(linear, tmp_path):
    """``AdaptedModel`` saves only B; A is the same when it is made again."""

    def adapted():
        model = nn.Sequential(nn.Linear(24, 40))
        model.load_state_dict({f"0.{k}": v for k, v in original.items()})
        return AdaptedModel(model, SumRA, all_linear=True, adapter_kwargs={"rank": 3})

    original = {name: value.clone() for name, value in linear.state_dict().items()}
    first, second = adapted(), adapted()
    nn.init.normal_(first.adapted_model[0].adapter_up_proj.weight)
    first.saver(tmp_path / "model.ckpt")
    x = torch.randn(5, 24)
    assert not torch.equal(first(x), second(x))
    second.loader(tmp_path / "model.ckpt", end_of_epoch=True)
    assert torch.equal(first(x), second(x))
