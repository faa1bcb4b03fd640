"""The merged folder, as Transformers loads it."""

import json

import pytest
import torch
from transformers import (
    WhisperForConditionalGeneration,
    WhisperProcessor,
    pipeline,
)

from speechbrain_sumra.bank import Bank
from speechbrain_sumra.export import export_huggingface
from speechbrain_sumra.export.folder import read_record
from speechbrain_sumra.whisper.decoding import GreedySearcher

load = WhisperForConditionalGeneration.from_pretrained


@pytest.mark.parametrize("method", ["SumRA", "DoRA", "PiSSA", "MiSS", "fine-tuning"])
def test_logits_are_the_adapted_models(method, adapted, same_logits, tmp_path):
    model = adapted(method)
    assert export_huggingface(model, tmp_path / "hf") == tmp_path / "hf"
    loaded, report = load(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    same_logits(model, loaded, "la")


@pytest.mark.parametrize("language", ["none", "polish", "new"])
def test_a_merged_folder_is_a_base_model_for_what_was_trained_without_a_token(
    language, adapted, tmp_path
):
    model = adapted("DoRA", base={"language": language, "locale": "hsb"})
    export_huggingface(model, tmp_path / "hf")
    wav = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
    bank = Bank(tmp_path / "hf", tmp_path / "pretrained", tmp_path, max_tokens=12)
    [found] = bank.transcribe([wav], None)
    [tokens] = GreedySearcher(model, 12)(model.encode(wav[None]))
    text = model.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert text and (found == text) == (language == "none")


def test_adapters_of_the_encoder_are_merged_too(adapted, same_logits, tmp_path):
    model = adapted(encoder_layers=1)
    export_huggingface(model, tmp_path / "hf")
    same_logits(model, load(tmp_path / "hf"), "la")


def test_the_model_is_afterwards_as_before(adapted, tmp_path):
    model = adapted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_huggingface(model, tmp_path / "hf")
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_new_row_takes_the_place_of_one_language_and_no_other(adapted, tmp_path):
    model = adapted()
    export_huggingface(model, tmp_path / "hf", "cs")
    embedding = model.model.decoder.embed_tokens
    token = model.tokenizer.convert_tokens_to_ids("<|cs|>")
    loaded = load(tmp_path / "hf")
    table = loaded.model.decoder.embed_tokens.weight
    differs = (table != embedding.weight).any(dim=1)
    assert differs.nonzero().tolist() == [[token]]
    assert torch.equal(table[token], embedding.new_token.weight[0])
    assert loaded.proj_out.weight is table


def prompt_of(folder, **settings):
    """The tokens that ``generate`` starts from."""
    model, seen = load(folder), []
    model.model.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"][0].tolist()),
        with_kwargs=True,
    )
    model.generate(torch.zeros(1, 80, 3000), max_new_tokens=1, **settings)
    return seen[0]


@pytest.mark.parametrize(
    ("language", "code"), [("new", "la"), ("polish", "pl"), ("none", None)]
)
def test_generate_starts_with_the_prompt_of_training(
    language, code, adapted, same_logits, tmp_path
):
    model = adapted(base={"language": language, "locale": "hsb"})
    export_huggingface(model, tmp_path / "hf")
    same_logits(model, load(tmp_path / "hf"), code)
    expected = list(model.prompt)
    if code is not None:
        expected[1] = model.tokenizer.convert_tokens_to_ids(f"<|{code}|>")
        found = prompt_of(tmp_path / "hf", language=code, task="transcribe")
        assert found == expected
    assert prompt_of(tmp_path / "hf") == expected
    assert read_record(tmp_path / "hf")["language"] == code


def test_the_tied_token_alone_is_suppressed_beside_whispers_own(
    adapted, tiny_base, tmp_path
):
    model = adapted()
    export_huggingface(model, tmp_path / "hf")
    token = model.tokenizer.convert_tokens_to_ids("<|la|>")
    before = json.loads((tiny_base / "generation_config.json").read_text())
    after = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert set(after["suppress_tokens"]) == {*before["suppress_tokens"], token}
    # Transformers takes the last but one for <|startofprev|> in older configs.
    assert after["suppress_tokens"][-2:] == before["suppress_tokens"][-2:]
    assert after["lang_to_id"] == before["lang_to_id"]


def test_a_pipeline_needs_the_folder_alone(adapted, tmp_path):
    model = adapted()
    export_huggingface(model, tmp_path / "hf")
    recognizer = pipeline("automatic-speech-recognition", str(tmp_path / "hf"))
    result = recognizer(torch.randn(16000).numpy(), generate_kwargs={"max_length": 8})
    assert isinstance(result["text"], str)
    tokenizer = WhisperProcessor.from_pretrained(tmp_path / "hf").tokenizer
    prompt = ["<|startoftranscript|>", "<|la|>", "<|transcribe|>", "<|notimestamps|>"]
    assert tokenizer.convert_ids_to_tokens(tokenizer.prefix_tokens) == prompt
    assert len(tokenizer) == model.config.vocab_size  # no token was added


def test_whispers_english_normalizer_comes_with_the_tokenizer(
    adapted, tiny_base, tmp_path
):
    model = adapted()
    table = tiny_base / "normalizer.json"
    table.write_text('{"colour": "color"}')
    try:
        export_huggingface(model, tmp_path / "hf")
    finally:
        table.unlink()
    tokenizer = WhisperProcessor.from_pretrained(tmp_path / "hf").tokenizer
    assert tokenizer.normalize("Colour!") == "color"


def test_a_base_without_generation_config_is_refused(adapted, tiny_base, tmp_path):
    model = adapted()
    model.config.name_or_path = tmp_path
    with pytest.raises(ValueError, match="no Whisper generation config"):
        export_huggingface(model, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_merged_model_is_refused_and_left_merged(adapted, tmp_path):
    model = adapted()
    model.merge()
    with pytest.raises(ValueError, match="merged already"):
        export_huggingface(model, tmp_path / "hf")
    model.unmerge()
