"""Attention to the encoder states, where cheaper without keys and values of them."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.whisper.modeling_whisper import WhisperAttention

from speechbrain_sumra.whisper.attention import additive_mask

# From there on keys and values are cheaper (heads of 64 numbers, on CPUs).
MOST_QUERIES = 48
# Calibrations of PEFT's and of ours wait in these for the layer to be called.
HOOKS = (
    *("_forward_pre_hooks", "_forward_hooks"),
    *("_backward_pre_hooks", "_backward_hooks"),
)


class CrossAttention(WhisperAttention):
    """Transformers' ``WhisperAttention`` to encoder states, for short texts.

    Keys and values of some hundred frames x are most of a decoder's work in training,
    though a sentence has but some dozen tokens to look at them. For head h

    ``softmax(q_h (W_k x)_h^T) (W_v x)_h = softmax((q_h W_k,h) x^T) x W_v,h^T``

    so the projections, each ``W = W0 + s B A``, can be applied to what the tokens ask
    for and to what they find instead of to the frames. Adapters then cost next to
    nothing here, and gradients are computed for tokens alone.

    This is done on CPUs, for at most ``MOST_QUERIES`` tokens, if both projections are
    linear layers or have a method ``factors`` as ``SumRA`` does, and nothing is hooked
    to them. Elsewhere it is the parent's. In decoding, where the cache tells how many
    tokens there are, it is done in float32 alone; keys and values are then made of the
    texts that have become longer, and of no others.

    Example
    -------
    >>> from transformers import WhisperConfig
    >>> config = WhisperConfig(attn_implementation="eager")
    >>> parent = WhisperAttention(8, 2, is_decoder=True, layer_idx=0, config=config)
    >>> tokens, frames = torch.rand(2, 3, 8), torch.rand(2, 50, 8)
    >>> expected, _ = parent(tokens, key_value_states=frames)
    >>> found, _ = CrossAttention.of(parent)(tokens, key_value_states=frames)
    >>> torch.allclose(found, expected, atol=1e-6)
    True
    """

    @classmethod
    def of(cls, attention: WhisperAttention) -> "CrossAttention":
        """The same module with its parameters, of this class from now on."""
        attention.__class__ = cls
        return attention

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        past_key_values=None,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Output of the layer, and no weights unless the parent makes them.

        Arguments
        ---------
        hidden_states : torch.Tensor
            Of the tokens, shape (batch, tokens, width).
        key_value_states : torch.Tensor
            Encoder states, shape (batch, frames, width).
        past_key_values : transformers.EncoderDecoderCache
            Keys and values of earlier calls.
        attention_mask : torch.Tensor
            True where a state may be attended to, shape (batch, 1, 1, frames).
        output_attentions : bool
            Whether weights are wanted.
        **kwargs
            For the parent.
        """
        keys, values = _Projection.of(self.k_proj), _Projection.of(self.v_proj)
        if (
            keys is None
            or values is None
            or (past_key_values is not None and keys.weight.dtype != torch.float32)
            or output_attentions
            or hidden_states.device.type != "cpu"
            or self._tokens(hidden_states, past_key_values) > MOST_QUERIES
            or (self.training and self.dropout)
        ):
            return super().forward(
                hidden_states,
                key_value_states,
                past_key_values,
                attention_mask,
                output_attentions,
                **kwargs,
            )
        output = self._attend(
            hidden_states, key_value_states, attention_mask, keys, values
        )
        return output, None

    def _tokens(self, hidden_states, cache) -> int:
        """How many tokens the text has, those included whose keys are in the cache."""
        if cache is None:
            return hidden_states.shape[1]
        return cache.get_seq_length(self.layer_idx)

    def _attend(self, hidden_states, frames, mask, keys, values):
        """The right side of the formula, and the output projection."""
        batch, tokens, width = hidden_states.shape
        heads = self.num_heads
        query = self.q_proj(hidden_states) * self.scaling
        query = query.view(batch * tokens, heads, width // heads)
        query = keys.project_back(query.transpose(0, 1))
        query = query.view(heads, batch, tokens, width).transpose(0, 1)
        query = query.reshape(batch, heads * tokens, width)
        scores = torch.bmm(query, frames.transpose(1, 2))
        if mask is not None:
            scores = scores + additive_mask(mask, scores).view(batch, 1, -1)
        found = torch.bmm(F.softmax(scores, dim=-1), frames)
        found = found.view(batch, heads, tokens, width).transpose(0, 1)
        found = values.project(found.reshape(heads, batch * tokens, width))
        return self.out_proj(found.transpose(0, 1).reshape(batch, tokens, width))


class _Projection(NamedTuple):
    """``x W0^T + bias + scaling * x A^T B^T``, head by head."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    scaling: float = 1.0

    @classmethod
    def of(cls, layer: nn.Module) -> "_Projection | None":
        """What a layer computes, None if it is something else."""
        if any(getattr(layer, hooks) for hooks in HOOKS):
            return None
        if type(layer) is nn.Linear:
            return cls(layer.weight, layer.bias)
        factors = layer.factors() if hasattr(layer, "factors") else None
        return factors and cls(*factors)

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """The outputs of each head alone: (heads, rows, width of a head)."""
        output = torch.bmm(states, _by_head(self.weight, states).mT)
        if self.up is not None:
            inner = states @ self.down.T
            up = _by_head(self.up, states).mT
            output = torch.baddbmm(output, inner, up, alpha=self.scaling)
        if self.bias is not None:
            output = output + self.bias.view(len(states), 1, -1)
        return output

    def project_back(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of each head times its part of the weight: (heads, rows, inputs)."""
        output = torch.bmm(rows, _by_head(self.weight, rows))
        if self.up is not None:
            inner = torch.bmm(rows, _by_head(self.up, rows)).flatten(0, 1)
            adapted = torch.addmm(
                output.flatten(0, 1), inner, self.down, alpha=self.scaling
            )
            output = adapted.view_as(output)
        return output


def _by_head(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return weight.view(len(rows), -1, weight.shape[1])
