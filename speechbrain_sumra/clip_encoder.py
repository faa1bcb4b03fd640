"""Whisper's encoder on a clip without most of the silence that pads it to 30 s."""

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_sumra.babble import babble

BABBLE_SECONDS = (2.0, 3.0, 4.0, 5.0)  # one voice each
PROBES = 32


class ClipEncoder:
    """An encoder that computes a clip's own states and estimates the padding's.

    Whisper was trained on clips padded to 30 s, and its encoder's states of the
    padding matter: without them the states of the speech change by a third. But
    they depend little on what was said. So the keys and values of the padding are
    computed once, as the mean over a few clips of ``babble``; a clip's frames attend
    to themselves and to these. What a clip changes in its padding is measured at a
    few of its padded frames, the probes, which are encoded with the clip; in between,
    the keys and values differ from the mean as those of the nearest probe do.

    All else is as in the encoder itself: were all padded frames probes, the result
    would be the same.

    Arguments
    ---------
    encoder : torch.nn.Module
        Transformers' ``WhisperEncoder``, in evaluation mode.
    log_mel : callable
        Gives the features (batch, bands, 2 x states) of waveforms.
    samples_per_state : int
        Samples that one encoder state stands for.
    probes : int
        Number of padded frames to encode, denser near the clip.
    """

    def __init__(
        self, encoder: nn.Module, log_mel, samples_per_state: int, probes: int = PROBES
    ):
        self.encoder = encoder
        self.log_mel = log_mel
        self.samples_per_state = samples_per_state
        self.probes = probes
        self._mean = None

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
        total = len(self.encoder.embed_positions.weight)
        probes = _spread(states, total, self.probes).to(wav.device)
        padded = torch.arange(states, total, device=wav.device)
        nearest = (padded[:, None] - probes).abs().argmin(dim=1)
        own = torch.arange(states, device=wav.device)
        # The silence sounds the same everywhere; positions tell its frames apart.
        hidden = self._convolve(wav, states)
        silence = hidden[:, -1:].expand(-1, len(probes), -1)
        hidden = torch.cat([hidden[:, :states], silence], dim=1)
        hidden = hidden + self.encoder.embed_positions.weight[torch.cat([own, probes])]
        for layer, (keys, values) in zip(
            self.encoder.layers, self._mean_padding(wav.device), strict=True
        ):
            normed = layer.self_attn_layer_norm(hidden)
            own_keys, own_values = _keys_and_values(layer, normed)
            attended = F.scaled_dot_product_attention(
                _heads(layer, layer.self_attn.q_proj(normed)),
                _with_padding(layer, own_keys, keys, states, probes, nearest),
                _with_padding(layer, own_values, values, states, probes, nearest),
            )
            attended = attended.transpose(1, 2).flatten(2)
            hidden = hidden + layer.self_attn.out_proj(attended)
            inner = F.gelu(layer.fc1(layer.final_layer_norm(hidden)))
            hidden = hidden + layer.fc2(inner)
        return self.encoder.layer_norm(hidden[:, :states])

    def _convolve(self, wav, states):
        """Input of the first layer but for positions, and two frames of silence."""
        samples = (states + 4) * self.samples_per_state
        mel = self.log_mel(F.pad(wav, (0, samples - wav.shape[1])))
        hidden = F.gelu(self.encoder.conv2(F.gelu(self.encoder.conv1(mel))))
        # A convolution takes what is beyond its input for zero, silence is not.
        return hidden.transpose(1, 2)[:, : states + 2]

    def _mean_padding(self, device):
        """Keys and values (1, frames, width) of 30 s of padding in each layer."""
        if self._mean is None or self._mean[0][0].device != device:
            layers = self.encoder.layers
            positions = self.encoder.embed_positions.weight
            means = [0.0] * len(layers)
            for seed, seconds in enumerate(BABBLE_SECONDS):
                wav = babble(seed, seconds)[None].to(device)
                hidden = self._convolve(wav, len(positions))[:, : len(positions)]
                hidden = hidden + positions
                for number, layer in enumerate(layers):
                    means[number] = means[number] + hidden / len(BABBLE_SECONDS)
                    hidden = layer(hidden, None)
            self._mean = [
                _keys_and_values(layer, layer.self_attn_layer_norm(mean))
                for layer, mean in zip(layers, means, strict=True)
            ]
        return self._mean


def _spread(start: int, end: int, number: int) -> torch.Tensor:
    """Frames between start and end, ever farther apart.

    Example
    -------
    >>> _spread(10, 110, 5).tolist()
    [11, 19, 35, 58, 90]
    """
    steps = (torch.arange(number) + 0.5) / number
    return (start + (end - start) * steps**2).long().unique()


def _heads(layer, projected: torch.Tensor) -> torch.Tensor:
    """From (batch, frames, width) to (batch, heads, frames, width of a head)."""
    heads = layer.self_attn.num_heads
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def _keys_and_values(layer, normed: torch.Tensor):
    """Shape (batch, frames, width) each."""
    return layer.self_attn.k_proj(normed), layer.self_attn.v_proj(normed)


def _with_padding(layer, own, mean, states, probes, nearest):
    """Keys (or values) of a clip and, as far as the probes tell, its padding."""
    difference = own[:, states:] - mean[:, probes]
    padding = mean[:, states:] + difference[:, nearest]
    return _heads(layer, torch.cat([own[:, :states], padding], dim=1))
