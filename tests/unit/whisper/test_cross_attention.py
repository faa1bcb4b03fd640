"""Attention without keys and values equals attention with them."""

import pytest
import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperAttention

from speechbrain_sumra import SumRA
from speechbrain_sumra.whisper import cross_attention as cross_attention_file
from speechbrain_sumra.whisper.attention import ATTENTION
from speechbrain_sumra.whisper.cross_attention import CrossAttention

WIDTH, HEADS, TOKENS = 16, 4, 5


@pytest.fixture
def parent_calls(monkeypatch):
    """How often keys and values were made."""
    calls = []
    forward = WhisperAttention.forward

    def counted(*args, **kwargs):
        calls.append(args)
        return forward(*args, **kwargs)

    monkeypatch.setattr(WhisperAttention, "forward", counted)
    return calls


def adapted_attention(adapted=("k_proj", "v_proj"), **settings):
    torch.manual_seed(0)
    config = WhisperConfig(attn_implementation=ATTENTION)
    attention = WhisperAttention(
        WIDTH, HEADS, is_decoder=True, layer_idx=0, config=config
    )
    for name in adapted:
        adapter = SumRA(getattr(attention, name), rank=3, alpha=6, **settings)
        nn.init.normal_(adapter.adapter_up_proj.weight)
        setattr(attention, name, adapter)
    return CrossAttention.of(attention)


def inputs():
    torch.manual_seed(1)
    tokens = torch.randn(3, TOKENS, WIDTH, requires_grad=True)
    lengths = torch.tensor([20, 1, 11])
    mask = (torch.arange(20) < lengths[:, None])[:, None, None]
    return tokens, torch.randn(3, 20, WIDTH), mask


def output_and_gradients(attention, mask=None, dtype=None):
    tokens, states, masked = inputs()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        output, _ = attention(
            tokens, key_value_states=states, attention_mask=masked if mask else None
        )
    output.float().square().sum().backward()
    trained = {n: p.grad for n, p in attention.named_parameters() if p.requires_grad}
    return output, {"tokens": tokens.grad, **trained}


def assert_near(found, wanted, tolerance):
    """Whether output and gradients are off by no more than a share of their norm."""
    (output, gradients), (wanted_output, wanted_gradients) = found, wanted
    pairs = [(output, wanted_output)]
    pairs += [(gradients[name], wanted_gradients[name]) for name in wanted_gradients]
    for mine, theirs in pairs:
        assert (mine.float() - theirs).norm() < tolerance * theirs.norm()


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("train_down_proj", [False, True])
@pytest.mark.parametrize(
    "adapted", [(), ("k_proj",), ("v_proj",), ("k_proj", "v_proj")]
)
def test_equals_the_parent(monkeypatch, parent_calls, adapted, train_down_proj, mask):
    settings = {"train_down_proj": train_down_proj}
    attention = adapted_attention(adapted, **settings)
    found = output_and_gradients(attention, mask)
    assert not parent_calls
    monkeypatch.setattr(cross_attention_file, "MOST_QUERIES", TOKENS - 1)
    wanted = output_and_gradients(adapted_attention(adapted, **settings), mask)
    assert len(parent_calls) == 1
    assert_near(found, wanted, 1e-4)


def test_autocast_multiplies_in_bfloat16():
    found = output_and_gradients(adapted_attention(), True, torch.bfloat16)
    assert found[0].dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in found[1].values())
    assert_near(found, output_and_gradients(adapted_attention(), True), 0.05)


def test_each_utterance_is_as_it_is_alone():
    attention = adapted_attention()
    tokens, states, mask = inputs()
    together, _ = attention(tokens, key_value_states=states, attention_mask=mask)
    for row, length in enumerate(mask.sum(dim=-1).flatten().tolist()):
        part = slice(row, row + 1)
        alone, _ = attention(tokens[part], key_value_states=states[part, :length])
        torch.testing.assert_close(together[part], alone)


@pytest.mark.parametrize("most", [0, 2, TOKENS])
def test_token_by_token_is_as_at_once(monkeypatch, parent_calls, most):
    """With a cache, whose keys and values are made when the text has become long."""
    attention = adapted_attention().eval()
    tokens, states, mask = inputs()
    expected, _ = attention(tokens, key_value_states=states, attention_mask=mask)
    monkeypatch.setattr(cross_attention_file, "MOST_QUERIES", most)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for position in range(TOKENS):
        token = tokens[:, position : position + 1]
        heads = token.view(3, HEADS, 1, WIDTH // HEADS)
        cache.self_attention_cache.update(heads, heads, 0)
        found, _ = attention(
            token, key_value_states=states, past_key_values=cache, attention_mask=mask
        )
        torch.testing.assert_close(found, expected[:, position : position + 1])
    assert len(parent_calls) == TOKENS - most


def test_with_a_cache_bfloat16_is_left_to_the_parent(parent_calls):
    attention = adapted_attention([]).to(torch.bfloat16)
    tokens, states, _ = inputs()
    attention(
        tokens.bfloat16(),
        key_value_states=states.bfloat16(),
        past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
    )
    assert len(parent_calls) == 1


class Other(nn.Linear):
    """A layer that may compute anything."""


def test_layers_of_another_kind_are_left_to_the_parent(parent_calls):
    attention = adapted_attention(["k_proj"])
    attention.v_proj = Other(WIDTH, WIDTH)
    output_and_gradients(attention)
    attention = adapted_attention([])
    attention.k_proj = SumRA(attention.k_proj, rank=3)
    attention.k_proj.pretrained_module = Other(WIDTH, WIDTH, bias=False)
    output_and_gradients(attention)
    assert len(parent_calls) == 2


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_pre_hook",
        "register_forward_hook",
        "register_full_backward_pre_hook",
        "register_full_backward_hook",
    ],
)
def test_hooks_hear_of_frames(parent_calls, register):
    heard = []
    attention = adapted_attention(["v_proj"])
    attention.k_proj.weight.requires_grad_()
    getattr(attention.k_proj, register)(lambda *call: heard.append(call))
    output_and_gradients(attention)
    assert len(parent_calls) == len(heard) == 1


def test_asked_for_weights_are_returned(parent_calls):
    tokens, states, mask = inputs()
    _, weights = adapted_attention()(
        tokens, key_value_states=states, attention_mask=mask, output_attentions=True
    )
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, TOKENS))
    assert len(parent_calls) == 1
