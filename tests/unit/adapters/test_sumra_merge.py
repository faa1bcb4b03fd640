"""SumRA merged into a plain layer, and the length of A's rows."""

import pytest
import torch
from torch import nn

from speechbrain_sumra import SumRA


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(24, 40)


@pytest.mark.parametrize("alpha", [None, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_layer_does_the_same(alpha, bias):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    names = list(layer.state_dict())
    adapter = SumRA(layer, rank=4, alpha=alpha)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    x = torch.randn(5, 24)
    before, expected = layer(x), adapter(x)
    merged = adapter.merge()
    assert type(merged) is nn.Linear and list(merged.state_dict()) == names
    torch.testing.assert_close(merged(x), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(adapter(x), expected) and torch.equal(layer(x), before)
    assert (expected - before).abs().max() > 0.1


def test_merging_at_step_0_gives_the_original_weight(linear):
    before = linear.weight.detach().clone()
    assert torch.equal(SumRA(linear, rank=4).merge().weight, before)


def test_merged_weight_is_the_formula(linear):
    before = linear.weight.detach().clone()
    adapter = SumRA(linear, rank=4, alpha=8)
    nn.init.normal_(adapter.adapter_up_proj.weight)
    a, b = adapter.adapter_down_proj.weight, adapter.adapter_up_proj.weight
    torch.testing.assert_close(adapter.merge().weight, before + 8 / 4 * b @ a)


@pytest.mark.parametrize("row_norm, length", [("unit", 1.0), (2.5, 2.5), (3, 3.0)])
def test_rows_of_a_are_of_one_length_and_keep_their_direction(linear, row_norm, length):
    raw = SumRA(linear, rank=4).adapter_down_proj.weight
    rows = SumRA(linear, rank=4, row_norm=row_norm).adapter_down_proj.weight
    torch.testing.assert_close(rows.norm(dim=1), torch.full((4,), length))
    torch.testing.assert_close(rows / length, raw / raw.norm(dim=1, keepdim=True))
    assert raw.norm(dim=1).std() > 0.01


def test_row_norm_scales_the_gradient_of_b_as_alpha_does(linear):
    x = torch.randn(5, 24)
    gradients = []
    for settings in ({"row_norm": 3}, {"row_norm": "unit", "alpha": 12}):
        adapter = SumRA(linear, rank=4, **settings)
        adapter(x).square().sum().backward()
        gradients.append(adapter.adapter_up_proj.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("row_norm", ["long", 0, -1.0, True])
def test_unusable_row_norm(linear, row_norm):
    with pytest.raises(ValueError, match="'raw', 'unit' or a positive number"):
        SumRA(linear, rank=4, row_norm=row_norm)
