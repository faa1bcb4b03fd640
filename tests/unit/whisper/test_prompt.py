"""The prompt: each choice of a language, and the token of a new one."""

import pytest
import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def whisper(tiny_whisper, tmp_path):
    return lambda **settings: Whisper(tiny_whisper, tmp_path, **settings)


@pytest.mark.parametrize(
    "settings, middle",
    [
        ({}, []),
        ({"language": "none", "locale": "eo"}, []),
        ({"language": "polish"}, ["<|pl|>"]),
        ({"language": "pl"}, ["<|pl|>"]),
        ({"language": "new", "locale": "eo"}, ["<|eo|>"]),
        ({"language": "new", "locale": "fy-NL"}, ["<|fy-NL|>"]),
        ({"language": "new", "locale": "pl"}, ["<|new:pl|>"]),
    ],
)
def test_prompt_of_each_language_choice(whisper, settings, middle):
    model = whisper(**settings)
    tokens = model.tokenizer.convert_ids_to_tokens(model.prompt)
    assert tokens == [
        "<|startoftranscript|>",
        *middle,
        "<|transcribe|>",
        "<|notimestamps|>",
    ]
    assert model.tokenizer.build_inputs_with_special_tokens([9]) == [
        *model.prompt,
        9,
        model.eos,
    ]
    searcher = S2SWhisperGreedySearcher(
        model=model, min_decode_ratio=0, max_decode_ratio=1
    )
    assert list(searcher.initial_tokens) == model.prompt


def test_new_language_starts_as_the_mean_and_alone_is_trained(whisper, tmp_path):
    base = whisper(language="new", locale="eo")
    table = base.model.decoder.embed_tokens
    languages = table.weight[list(base.language_tokens)]
    assert len(base.language_tokens) == 99
    torch.testing.assert_close(table.new_token.weight[0], languages.mean(dim=0))

    model = AdaptedWhisper(base, SumRA, {"rank": 2}, tmp_path / "basis")
    _, logits, _ = model(torch.randn(1, 16000), torch.tensor([base.prompt]))
    assert logits.shape[-1] == table.num_embeddings  # it is read, never written
    logits.sum().backward()
    assert table.new_token.weight.grad.abs().sum() > 0
    assert table.weight.grad is None


def test_new_token_for_a_known_language_is_questioned(whisper, caplog):
    whisper(language="new", locale="pl")
    assert "--language pl would use its own token" in caplog.text


def test_unknown_language_lists_the_known(whisper):
    with pytest.raises(ValueError, match="Unknown language 'klingon'.*'none'.* af, am"):
        whisper(language="klingon")


def test_new_language_needs_a_locale(whisper):
    with pytest.raises(ValueError, match="needs a locale"):
        whisper(language="new")
