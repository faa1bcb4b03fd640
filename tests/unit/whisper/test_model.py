"""The wrapper: Whisper's own features, batch independence, parts of the encoder."""

import numpy as np
import pytest
import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher
from transformers import WhisperFeatureExtractor

from speechbrain_sumra.data import read_audio
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def whisper(tiny_whisper, tmp_path):
    return lambda **settings: Whisper(tiny_whisper, tmp_path, **settings)


def mixed_clips():
    """A loud, a faint and a short clip: a common maximum would change two."""
    rng = np.random.default_rng(0)
    lengths = (48000, 80000, 4000)
    gains = (0.5, 1e-3, 0.05)
    return [
        (gain * rng.standard_normal(n)).astype(np.float32)
        for n, gain in zip(lengths, gains, strict=True)
    ]


def as_batch(clips):
    return torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(clip) for clip in clips], batch_first=True
    )


def assert_equal_to_transformers(whisper, clips):
    extractor = WhisperFeatureExtractor()
    ours = whisper._get_mel(as_batch(clips))
    for row, clip in zip(ours, clips, strict=True):
        theirs = extractor(np.asarray(clip), sampling_rate=16000, return_tensors="pt")
        torch.testing.assert_close(row, theirs.input_features[0], atol=1e-4, rtol=0)


def test_features_of_a_mixed_batch_equal_transformers(whisper):
    assert_equal_to_transformers(whisper(), mixed_clips())


def test_features_of_real_clips_equal_transformers(whisper, real_speech):
    paths = sorted((real_speech / "eo" / "clips").glob("*.mp3"))[:6]
    assert_equal_to_transformers(whisper(), [read_audio(str(path)) for path in paths])


def test_features_do_not_depend_on_autocast(whisper):
    model, batch = whisper(), as_batch(mixed_clips())
    plain = model._get_mel(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model._get_mel(batch), plain)


def test_transcription_does_not_depend_on_the_batch(
    whisper_base, tmp_path, real_speech
):
    model = Whisper(whisper_base, tmp_path, language="english")
    search = S2SWhisperGreedySearcher(
        model=model, min_decode_ratio=0, max_decode_ratio=0.02
    )
    clips = [
        read_audio(str(path))
        for path in sorted((real_speech / "hsb" / "clips").glob("*.mp3"))[:3]
    ]
    together, *_ = search(model.encode(as_batch(clips)), torch.ones(3))
    for clip, hypothesis in zip(clips, together, strict=True):
        alone, *_ = search(model.encode(clip[None]), torch.ones(1))
        assert alone[0] == hypothesis


def test_audio_over_30_s_is_refused(whisper):
    with pytest.raises(ValueError, match="at most 30 s at once, got 31.0 s"):
        whisper().encode(torch.zeros(1, 31 * 16000))


@pytest.mark.parametrize("context", ["full", "clip"])
def test_a_rounded_duration_of_30_s_is_not_refused(whisper, context):
    model, wav = whisper(), torch.rand(1, 30 * 16000 + 100)
    states = model.encode(wav, context)
    assert torch.equal(states, model.encode(wav[:, : 30 * 16000], context))


def test_encoder_is_frozen_and_has_no_graph(whisper):
    model = whisper()
    states, logits, _ = model(torch.randn(1, 16000), torch.tensor([model.prompt]))
    assert not states.requires_grad and logits.requires_grad
    assert not any(p.requires_grad for p in model.model.encoder.parameters())


def test_given_encoder_states_replace_the_audio(whisper):
    model, wav = whisper(), torch.randn(1, 16000)
    tokens = torch.tensor([model.prompt])
    states, logits, _ = model(wav, tokens)
    again = model(None, tokens, encoder_states=states)[1]
    assert torch.equal(logits, again)


def test_base_fingerprint_ignores_the_language_choice(whisper):
    assert (
        whisper().base_fingerprint
        == whisper(language="new", locale="eo").base_fingerprint
    )


@pytest.fixture
def short(tiny_whisper, tmp_path):
    def build(context, **settings):
        return Whisper(
            tiny_whisper, tmp_path, encoder_context=context, **settings
        ).eval()

    return build


def test_contexts_count_their_states(short):
    wav = torch.randn(1, 24000)
    expected = {"full": 1500, "clip": 275}
    for context, frames in expected.items():
        model = short(context)
        assert model.encode(wav).shape[1] == model.count_states(24000) == frames
        assert model.count_states(480000) == 1500


@pytest.mark.parametrize("context", ["full", "clip"])
def test_what_is_left_of_the_encoder_is_finished(short, context):
    parted = short(context, adapted_encoder_layers=1)
    wav = torch.randn(2, 24000)
    expected = short(context).encode(wav)
    states = parted.encode(wav)
    assert states.shape == expected.shape and not torch.allclose(states, expected)
    torch.testing.assert_close(parted.finish_encoding(states), expected)
    tokens = torch.tensor([parted.prompt] * 2)
    torch.testing.assert_close(parted(wav, tokens)[0], expected)
    assert parted.encoder_settings != short(context).encoder_settings
    assert short(context).finish_encoding(states) is states


def test_the_encoder_is_finished_for_each_utterance_alone(short):
    model = short("clip", adapted_encoder_layers=1)
    states = torch.randn(2, 60, model.config.d_model)
    alone = model.finish_encoding(states[1:, :45])
    states[1, 45:] = 9.0
    lengths = torch.tensor([60, 45])
    together = model.finish_encoding(states, lengths)[1:, :45]
    torch.testing.assert_close(together, alone)
    unmasked = model.finish_encoding(states)[1:, :45]
    assert not torch.allclose(unmasked, alone, atol=1e-3)


@pytest.mark.parametrize("number", [-1, 2])
def test_an_encoder_has_only_so_many_layers(short, number):
    with pytest.raises(ValueError, match=f"is {number}, but the encoder has 1 layers"):
        short("full", adapted_encoder_layers=number)


def test_clip_is_full_where_the_clip_is_30_s(short):
    wav = torch.randn(1, 480000)
    torch.testing.assert_close(short("clip").encode(wav), short("full").encode(wav))


def test_an_unknown_context_is_refused(short):
    with pytest.raises(ValueError, match="expected one of full, clip"):
        short("short")


def test_padded_states_change_no_logits(short):
    model = short("clip")
    torch.manual_seed(0)
    states = torch.randn(2, 60, model.config.d_model)
    tokens = torch.tensor([model.prompt + [400, 500]] * 2)
    lengths = torch.tensor([60, 45])
    with torch.no_grad():
        alone = model(None, tokens[1:], states[1:, :45])[1]
        states[1, 45:] = 9.0
        together = model(None, tokens, states, lengths)[1]
        unmasked = model(None, tokens, states)[1]
    torch.testing.assert_close(together[1:], alone)
    assert not torch.allclose(unmasked[1:], alone, atol=1e-3)


def test_logits_at_chosen_positions(short):
    model = short("full")
    states = torch.randn(2, 20, model.config.d_model)
    tokens = torch.tensor([model.prompt + [400, 500]] * 2)
    positions = torch.rand(tokens.shape) < 0.5
    with torch.no_grad():
        everywhere = model(None, tokens, states)[1]
        chosen = model(None, tokens, states, positions=positions)[1]
    torch.testing.assert_close(chosen, everywhere[positions])
