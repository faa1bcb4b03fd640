"""Whisper's encoder on a clip without the silence that pads it to 30 s."""

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_sumra.babble import babble

BABBLE_SECONDS = (2.0, 3.0, 4.0, 5.0)  # one voice each


class ClipEncoder:
    """An encoder that computes a clip's own states and remembers the padding's.

    Whisper was trained on clips padded to 30 s, and its encoder's states of the
    padding matter: without them the states of the speech change by a third.  But
    they hardly depend on what was said.  So the keys and values of the padding are
    computed once, as the mean over a few clips of ``babble``, and a clip's own
    frames attend to themselves and to those.

    Its own frames go through all else as in the encoder itself: with the true
    padding in place of the remembered one, the result would be the same.

    Arguments
    ---------
    encoder : torch.nn.Module
        Transformers' ``WhisperEncoder``, in evaluation mode.
    log_mel : callable
        Gives the features (batch, bands, 2 x states) of waveforms.
    samples_per_state : int
        Samples that one encoder state stands for.
    """

    def __init__(self, encoder: nn.Module, log_mel, samples_per_state: int):
        self.encoder = encoder
        self.log_mel = log_mel
        self.samples_per_state = samples_per_state
        self._padding = None

    @torch.no_grad()
    def __call__(self, wav: torch.Tensor, states: int) -> torch.Tensor:
        """States of the first part of the 30 s that clips are padded to.

        Arguments
        ---------
        wav : torch.Tensor
            Waveforms at 16 kHz, shape (batch, samples).
        states : int
            How many states, at least as many as the waveforms have.

        Returns
        -------
        torch.Tensor
            Shape (batch, states, width).
        """
        hidden = self._embed(wav, states)
        padding = self._padding_like(hidden)
        for layer, (keys, values) in zip(self.encoder.layers, padding, strict=True):
            hidden = _layer(layer, hidden, keys[:, :, states:], values[:, :, states:])
        return self.encoder.layer_norm(hidden)

    def _embed(self, wav, states):
        """Input of the first layer."""
        encoder = self.encoder
        # A little more than wanted, as a convolution looks ahead.
        ahead = min(states + 2, len(encoder.embed_positions.weight))
        samples = ahead * self.samples_per_state
        mel = self.log_mel(F.pad(wav, (0, samples - wav.shape[1])))
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        return hidden[:, :states] + encoder.embed_positions.weight[:states]

    def _padding_like(self, hidden):
        """Keys and values of 30 s of padding in each layer, computed once."""
        if self._padding is None or self._padding[0][0].device != hidden.device:
            layers = self.encoder.layers
            total = len(self.encoder.embed_positions.weight)
            means = [0.0] * len(layers)
            for seed, seconds in enumerate(BABBLE_SECONDS):
                state = self._embed(
                    babble(seed, seconds)[None].to(hidden.device), total
                )
                for number, layer in enumerate(layers):
                    means[number] = means[number] + state / len(BABBLE_SECONDS)
                    state = layer(state, None)
            self._padding = [
                _keys_and_values(layer, layer.self_attn_layer_norm(mean))
                for layer, mean in zip(layers, means, strict=True)
            ]
        return self._padding


def _heads(attention, projected: torch.Tensor) -> torch.Tensor:
    """From (batch, frames, width) to (batch, heads, frames, width of a head)."""
    return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)


def _keys_and_values(layer, normed: torch.Tensor):
    attention = layer.self_attn
    keys = _heads(attention, attention.k_proj(normed))
    return keys, _heads(attention, attention.v_proj(normed))


def _layer(layer, hidden, more_keys, more_values):
    """One layer, whose frames attend to themselves and to what is given."""
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    keys, values = _keys_and_values(layer, normed)
    attended = F.scaled_dot_product_attention(
        _heads(attention, attention.q_proj(normed)),
        torch.cat([keys, more_keys.expand(len(hidden), -1, -1, -1)], dim=2),
        torch.cat([values, more_values.expand(len(hidden), -1, -1, -1)], dim=2),
    )
    hidden = hidden + attention.out_proj(attended.transpose(1, 2).flatten(2))
    inner = F.gelu(layer.fc1(layer.final_layer_norm(hidden)))
    return hidden + layer.fc2(inner)
