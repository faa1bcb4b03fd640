"""Mixed layers against a loop over rows."""

import pytest
import torch
from torch import nn

from speechbrain_sumra.bank.mixed_batch import (
    FEW_TOKENS,
    MixedEmbedding,
    MixedLayerNorm,
    MixedLinear,
    Rows,
)

SLOTS = [2, 0, 1, 2, 2]


def rows(own_down=False):
    return Rows(torch.tensor(SLOTS), own_down)


def linear(chosen):
    torch.manual_seed(0)
    mixed = MixedLinear(nn.Linear(8, 12), chosen, slots=3, rank=4)
    for tensor in (mixed.down, mixed.up):
        tensor.normal_()
    mixed.up[0].zero_()
    mixed.own_down = torch.randn(3, 4, 8)
    return mixed


@pytest.mark.parametrize("tokens", [1, FEW_TOKENS, FEW_TOKENS + 1, 20])
def test_each_row_has_its_own_up_projection(tokens):
    mixed = linear(rows(torch.tensor([1, 3])))
    x = torch.randn(5, tokens, 8)
    found = mixed(x)
    for row, slot in enumerate(SLOTS):
        down = mixed.own_down[slot] if row in (1, 3) else mixed.down
        wanted = mixed.layer(x[row]) + x[row] @ down.T @ mixed.up[slot]
        torch.testing.assert_close(found[row], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("slot", [0, 1])
def test_one_slot_serves_a_batch_of_any_size(slot, own):
    mixed = linear(Rows(slot, own))
    down = mixed.own_down[slot] if own else mixed.down
    for shape in [(3, 2, 8), (1, 7, 8)]:
        x = torch.randn(shape)
        wanted = mixed.layer(x) + x @ down.T @ mixed.up[slot]
        torch.testing.assert_close(mixed(x), wanted, rtol=1e-4, atol=1e-4)


def test_selected_rows_keep_their_languages():
    chosen = rows(torch.tensor([1, 3]))
    mixed = linear(chosen)
    x = torch.randn(5, 2, 8)
    before, keep = mixed(x), torch.tensor([0, 3, 4])
    chosen.select(keep)
    torch.testing.assert_close(mixed(x[keep]), before[keep], rtol=1e-4, atol=1e-4)


def test_of_one_slot_any_selected_rows_keep_the_language():
    chosen = Rows(2, own_down=True)
    mixed = linear(chosen)
    x = torch.randn(5, 2, 8)
    before, keep = mixed(x), torch.tensor([1, 4])
    chosen.select(keep)
    torch.testing.assert_close(mixed(x[keep]), before[keep], rtol=1e-4, atol=1e-4)


def test_norms_are_those_of_each_row():
    torch.manual_seed(0)
    norm = nn.LayerNorm(8)
    mixed = MixedLayerNorm(norm, rows(), slots=3)
    x = torch.randn(5, 2, 8)
    torch.testing.assert_close(mixed(x), norm(x))
    mixed.weight[1:].normal_()
    mixed.bias[1:].normal_()
    found = mixed(x)
    for row, slot in enumerate(SLOTS):
        wanted = nn.functional.layer_norm(
            x[row], (8,), mixed.weight[slot], mixed.bias[slot]
        )
        torch.testing.assert_close(found[row], wanted)
    single = MixedLayerNorm(norm, Rows(2), slots=3)
    single.weight, single.bias = mixed.weight, mixed.bias
    torch.testing.assert_close(single(x)[0], found[0])


def test_the_new_token_is_that_of_each_row():
    torch.manual_seed(0)
    base = nn.Embedding(6, 8)
    mixed = MixedEmbedding(base, rows(), slots=3)
    mixed.new_token.normal_()
    tokens = torch.tensor([[6, 1]]).expand(5, 2)
    found = mixed(tokens)
    assert torch.equal(found[:, 0], mixed.new_token[SLOTS])
    assert torch.equal(found[:, 1], base.weight[1].expand(5, 8))
    assert mixed.weight is base.weight
