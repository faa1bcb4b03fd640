"""LoRA+: B alone learns faster, by a ratio that schedules respect."""

import pytest
import torch
from speechbrain.nnet.adapters import LoRA
from torch import nn

from speechbrain_sumra import SORSA, SumRA
from speechbrain_sumra.layer_adapters import LayerAdapters
from speechbrain_sumra.training.optimizer import parameter_groups, set_learning_rate


def names_to_tensors(*names):
    return {name: torch.zeros(i + 1) for i, name in enumerate(names)}


NORMS_AND_TOKEN = ["decoder.layer_norm.weight", "decoder.embed_tokens.new_token.weight"]
SPEECHBRAIN = ["0.adapter_down_proj.weight", "0.adapter_up_proj.weight"]
PEFT = ["0.lora_A.default.weight", "0.lora_B.default.weight"]
ADALORA = ["0.lora_A.default", "0.lora_E.default", "0.lora_B.default"]


@pytest.mark.parametrize("names", [SPEECHBRAIN, PEFT, NORMS_AND_TOKEN, []])
@pytest.mark.parametrize("ratio", [1, 1.0])
def test_ratio_1_is_one_group_of_all(names, ratio):
    parameters = names_to_tensors(*names)
    [group] = parameter_groups(parameters, ratio)
    assert [id(p) for p in group["params"]] == [id(p) for p in parameters.values()]
    assert group["lr_ratio"] == 1


@pytest.mark.parametrize("names", [SPEECHBRAIN, PEFT, ADALORA])
def test_b_alone_is_fast(names):
    parameters = names_to_tensors(*names, *NORMS_AND_TOKEN)
    slow, fast = parameter_groups(parameters, 16)
    *rest, b = names
    assert [id(p) for p in fast["params"]] == [id(parameters[b])]
    expected = [id(parameters[name]) for name in [*rest, *NORMS_AND_TOKEN]]
    assert [id(p) for p in slow["params"]] == expected
    assert (slow["lr_ratio"], fast["lr_ratio"]) == (1, 16)


def trained(adapter_class, **settings):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3), nn.LayerNorm(3))
    method = LayerAdapters(adapter_class, rank=2, **settings)
    method.insert(model, ["0", "1"], method.make_basis(model, ["0", "1"], {}))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "adapter_class, settings",
    [(LoRA, {}), (SORSA, {}), (SumRA, {"train_down_proj": True})],
)
def test_groups_of_adapters_are_disjoint_and_complete(adapter_class, settings):
    parameters = trained(adapter_class, **settings)
    slow, fast = (group["params"] for group in parameter_groups(parameters, 2))
    assert len(fast) == 2
    assert {id(p) for p in slow + fast} == {id(p) for p in parameters.values()}
    assert len(slow + fast) == len(parameters)


@pytest.mark.parametrize(
    "names",
    [
        ["0.lora_B.default.weight"],
        ["0.lora_A.default.weight"],
        ["0.vera_lambda_b.default", "0.vera_lambda_d.default"],
        NORMS_AND_TOKEN,
    ],
)
def test_methods_without_a_trained_a_and_b_are_refused(names):
    with pytest.raises(ValueError, match="lora_plus_ratio=16 is for methods"):
        parameter_groups(names_to_tensors(*names), 16)


def test_sumra_with_its_frozen_a_is_refused():
    with pytest.raises(ValueError, match="Leave it at 1"):
        parameter_groups(trained(SumRA), 16)


def test_learning_rates_keep_their_ratio():
    groups = parameter_groups(names_to_tensors(*PEFT), 16)
    optimizer = torch.optim.AdamW(groups)
    for learning_rate in (0.5, 0.001):
        set_learning_rate(optimizer, learning_rate)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == [learning_rate, 16 * learning_rate]


def test_b_moves_by_the_ratio_further():
    parameters = names_to_tensors(*PEFT)
    optimizer = torch.optim.SGD(parameter_groups(parameters, 16))
    set_learning_rate(optimizer, 0.25)
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert [p[0].item() for p in parameters.values()] == [-0.25, -4.0]
