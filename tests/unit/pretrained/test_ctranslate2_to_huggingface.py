"""What a conversion gives, and models that it refuses."""

import json

import numpy as np
import pytest
import torch
from ctranslate2_writer import (
    ENGLISH_ONLY,
    MULTILINGUAL,
    ct2_variables,
    load,
    logits,
    tiny_whisper,
    write_ct2_folder,
)
from speechbrain.integrations.huggingface.whisper import Whisper
from transformers import AutoTokenizer

from speechbrain_sumra.pretrained import ctranslate2_to_huggingface, fetch_whisper
from speechbrain_sumra.pretrained.ctranslate2_format import CTranslate2FormatError

# ---- what a conversion gives


def test_conversion_is_exact(tiny, converted):
    model = load(converted)
    assert model.dtype == torch.float32
    assert torch.equal(logits(model), logits(tiny))


def test_conversion_in_speechbrain(tiny, converted, tmp_path):
    whisper = Whisper(str(converted), str(tmp_path), freeze=True)
    state = whisper.model.state_dict()
    for name, value in tiny.model.state_dict().items():
        assert torch.equal(state[name], value), name
    assert whisper.is_multilingual
    assert len(whisper.tokenizer) == whisper.config.vocab_size == MULTILINGUAL
    assert whisper.feature_extractor.n_samples == 16000  # 50 positions, 1 s


def test_converted_configuration(converted):
    model = load(converted)
    assert model.config.decoder_start_token_id == 50258
    assert {model.config.bos_token_id, model.config.eos_token_id} == {50257}
    assert model.config.encoder_attention_heads == 2
    assert model.config.decoder_attention_heads == 4
    generation = model.generation_config
    assert generation.is_multilingual
    assert generation.lang_to_id["<|pl|>"] == 50269
    assert len(generation.lang_to_id) == 99
    assert generation.task_to_id == {"transcribe": 50359, "translate": 50358}
    assert generation.no_timestamps_token_id == 50363
    assert generation.suppress_tokens == [1, 2]
    assert generation.begin_suppress_tokens == [220, 50257]
    assert generation.alignment_heads == [[0, 1]]
    assert generation.max_length == 16


def test_converted_tokenizer(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert len(tokenizer) == MULTILINGUAL
    assert tokenizer.convert_tokens_to_ids("<|0.00|>") == 50364
    assert tokenizer.convert_tokens_to_ids("<|30.00|>") == MULTILINGUAL - 1
    tokenizer.set_prefix_tokens(language="polish", task="transcribe")
    ids = tokenizer("Dzień dobry").input_ids
    assert ids[:4] == [50258, 50269, 50359, 50363]
    assert ids[-1] == 50257
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Dzień dobry"
    assert tokenizer.normalize("Don't!") == "do not"
    tokenizer.set_prefix_tokens(language="english", task="translate")
    assert tokenizer.prefix_tokens == [50258, 50259, 50358, 50363]
    # transformers takes the last special token for the one before <|0.00|>.
    assert tokenizer.all_special_ids[-1] == 50363


def test_english_only(tmp_path):
    model = tiny_whisper(ENGLISH_ONLY)
    source = write_ct2_folder(tmp_path / "en", ct2_variables(model), ENGLISH_ONLY)
    folder = fetch_whisper(str(source), tmp_path / "cache")
    config = load(folder).generation_config
    assert not config.is_multilingual
    assert config.decoder_start_token_id == 50257
    assert not hasattr(config, "lang_to_id")
    assert torch.equal(logits(load(folder)), logits(model))


def test_padding_rows_are_cut(tiny, tmp_path):
    variables = ct2_variables(tiny)
    embedding = variables["decoder/embeddings/weight"]
    padding = np.ones((7, embedding.shape[1]), np.float32)
    variables["decoder/embeddings/weight"] = np.concatenate([embedding, padding])
    source = write_ct2_folder(tmp_path / "padded", variables)
    folder = fetch_whisper(str(source), tmp_path / "cache")
    assert load(folder).config.vocab_size == MULTILINGUAL
    assert torch.equal(logits(load(folder)), logits(tiny))


def test_number_of_timestamps():
    assert len(ctranslate2_to_huggingface.TIMESTAMPS) == 1501
    assert ctranslate2_to_huggingface.TIMESTAMPS[-1] == "<|30.00|>"


# ---- files that are not what they should be


def drop(variables, name):
    del variables[name]


def set_key_bias(variables, name):
    variables[name][8] = 1.0


def make_int16(variables, name):
    variables[name] = variables[name].astype(np.int16)


def cut(variables, name):
    variables[name] = variables[name][:-1]


@pytest.mark.parametrize(
    "damage, name, message",
    [
        (drop, "encoder/num_heads", "no variable 'encoder/num_heads'"),
        (drop, "encoder/layer_1/ffn/linear_0/bias", "layers.1.fc1.bias"),
        (set_key_bias, "encoder/layer_0/self_attention/linear_0/bias", "not zero"),
        (make_int16, "decoder/layer_0/ffn/linear_0/weight", "stored as int16"),
        (cut, "decoder/layer_0/ffn/linear_1/weight", "should have shape"),
    ],
)
def test_incomplete_model(tiny, tmp_path, damage, name, message):
    variables = {k: np.copy(v) for k, v in ct2_variables(tiny).items()}
    damage(variables, name)
    source = write_ct2_folder(tmp_path / "bad", variables)
    with pytest.raises(CTranslate2FormatError, match=message):
        fetch_whisper(str(source), tmp_path / "cache")
    # Nothing half done stays.
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_tokenizer_missing_or_of_another_model(own_folder, tmp_path):
    names = ["!"] * 10
    (own_folder / "vocabulary.json").write_text(json.dumps(names))
    with pytest.raises(CTranslate2FormatError, match="belongs to another model"):
        fetch_whisper(str(own_folder), tmp_path / "cache")
    (own_folder / "vocabulary.json").unlink()
    (own_folder / "tokenizer.json").unlink()
    with pytest.raises(CTranslate2FormatError, match="has no tokenizer.json"):
        fetch_whisper(str(own_folder), tmp_path / "cache")
