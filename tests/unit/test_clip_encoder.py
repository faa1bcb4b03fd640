"""The encoder on a clip's own length: exact but for what padding is taken to be."""

import pytest
import torch

from speechbrain_sumra.clip_encoder import ClipEncoder, _keys_and_values
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def whisper(tiny_whisper, tmp_path):
    return Whisper(tiny_whisper, tmp_path, encoder_context="clip").eval()


@torch.no_grad()
def test_with_the_true_padding_states_are_those_of_the_whole_encoder(whisper):
    wav = torch.randn(1, 24000) / 10
    encoder = whisper.model.encoder
    clip = ClipEncoder(encoder, whisper.log_mel_spectrogram, 320)
    hidden = clip._embed(wav, 1500)
    clip._padding = []
    for layer in encoder.layers:
        clip._padding.append(
            _keys_and_values(layer, layer.self_attn_layer_norm(hidden))
        )
        hidden = layer(hidden, None)
    expected = whisper.forward_encoder(whisper._get_mel(wav))
    torch.testing.assert_close(encoder.layer_norm(hidden), expected)
    torch.testing.assert_close(clip(wav, 100), expected[:, :100])


@torch.no_grad()
def test_a_clip_is_encoded_alike_in_any_batch(whisper):
    clips = torch.randn(3, 16000) / 10
    together = whisper.encode(clips)
    for row in range(3):
        alone = whisper.encode(clips[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_the_padding_is_computed_once_and_for_all(whisper, tiny_whisper, tmp_path):
    whisper.encode(torch.randn(1, 16000))
    first = whisper._clip_encoder._padding
    whisper.encode(torch.randn(1, 32000))
    assert whisper._clip_encoder._padding is first
    other = Whisper(tiny_whisper, tmp_path, encoder_context="clip").eval()
    other.encode(torch.randn(1, 16000))
    for mine, theirs in zip(first, other._clip_encoder._padding, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


@torch.no_grad()
def test_real_padding_is_what_babble_says(whisper_base, tmp_path, real_speech):
    """Half as far from the full context as without the padding, and less."""
    whisper = Whisper(whisper_base, tmp_path, encoder_context="clip").eval()
    clip = whisper._clip_encoder
    for path in sorted((real_speech / "hsb" / "clips").glob("*.mp3"))[:2]:
        wav = read_audio(str(path))[None]
        states = whisper.count_states(wav.shape[1])
        full = whisper.forward_encoder(whisper._get_mel(wav))[:, :states]
        remembered = clip(wav, states)
        clip._padding = [(k[:, :, :states], v[:, :, :states]) for k, v in clip._padding]
        without = clip(wav, states)
        clip._padding = None
        assert (remembered - full).norm() < 0.2 * full.norm()
        assert (remembered - full).norm() < 0.5 * (without - full).norm()
