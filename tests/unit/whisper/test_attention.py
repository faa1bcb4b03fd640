"""Attention by matrix products equals the fused kernel."""

import pytest
import torch
from torch.nn import functional as F

from speechbrain_sumra.whisper import attention as attention_file
from speechbrain_sumra.whisper.attention import attention


@pytest.fixture
def fused_calls(monkeypatch):
    """How often the fused kernel was asked."""
    calls = []
    fused = attention_file.sdpa_attention_forward

    def counted(*args, **kwargs):
        calls.append(args)
        return fused(*args, **kwargs)

    monkeypatch.setattr(attention_file, "sdpa_attention_forward", counted)
    return calls


def layer(is_causal=False, is_decoder=True):
    """What the function reads of Transformers' module."""
    module = torch.nn.Module()
    module.is_causal, module.is_decoder = is_causal, is_decoder
    return module.eval()


def draw(queries, keys, dtype=torch.float32):
    """Query, keys and values of 3 utterances and 4 heads."""
    torch.manual_seed(0)
    shapes = [(3, 4, number, 8) for number in (queries, keys, keys)]
    return [torch.randn(shape).to(dtype) for shape in shapes]


def lengths_mask(keys):
    """Utterances of unlike length."""
    lengths = torch.tensor([keys, 1, keys // 2 + 1])
    return (torch.arange(keys) < lengths[:, None])[:, None, None]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("queries", "dtype"), [(1, torch.float32), (1, torch.bfloat16), (5, torch.bfloat16)]
)
def test_products_equal_the_fused_kernel(queries, dtype, masked, fused_calls):
    query, key, value = draw(queries, 7, dtype)
    mask = lengths_mask(7) if masked else None
    found, _ = attention(layer(), query, key, value, mask, scaling=0.5)
    wanted = F.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), attn_mask=mask, scale=0.5
    ).transpose(1, 2)
    assert not fused_calls
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), wanted, atol=tolerance, rtol=0)


def test_without_a_mask_a_causal_module_looks_at_nothing_later(fused_calls):
    query, key, value = draw(5, 5, torch.bfloat16)
    found, _ = attention(layer(is_causal=True), query, key, value, None, scaling=1.0)
    changed = value.clone()
    changed[:, :, 3:] = 100.0
    other, _ = attention(layer(is_causal=True), query, key, changed, None, scaling=1.0)
    assert torch.equal(found[:, :3], other[:, :3])
    assert not torch.equal(found[:, 3:], other[:, 3:])
    assert not fused_calls


def test_gradients_equal_those_of_the_fused_kernel():
    tensors = [t.requires_grad_() for t in draw(5, 7, torch.bfloat16)]
    attention(layer(), *tensors, lengths_mask(7), scaling=0.3)[0].sum().backward()
    wanted = [t.detach().float().requires_grad_() for t in tensors]
    output = F.scaled_dot_product_attention(
        *wanted, attn_mask=lengths_mask(7), scale=0.3
    )
    output.sum().backward()
    for mine, theirs in zip(tensors, wanted, strict=True):
        torch.testing.assert_close(mine.grad.float(), theirs.grad, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("queries", "dtype", "is_decoder"),
    [(5, torch.float32, True), (5, torch.bfloat16, False)],
)
def test_the_fused_kernel_serves_long_queries(queries, dtype, is_decoder, fused_calls):
    module = layer(is_decoder=is_decoder)
    attention(module, *draw(queries, 7, dtype), None, scaling=1.0)
    assert len(fused_calls) == 1


def test_weights_are_returned_if_asked_for(fused_calls):
    tensors = draw(5, 7)
    _, weights = attention(
        layer(), *tensors, lengths_mask(7), scaling=1.0, output_attentions=True
    )
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 5))
    assert not weights[1, :, :, 1:].any()
    assert not fused_calls
