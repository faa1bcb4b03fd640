"""The model card: what the hub reads, and how to load the model."""

import ast
import re

import pytest
import yaml

from speechbrain_sumra.export.model_card import LOADING, model_card

FACTS = {
    "base_model": "openai/whisper-base",
    "locale": "fy-NL",
    "language": "la",
    "method": "SumRA",
    "rank": 32,
    "test_wer": 62.734,
    "file": "adapter.safetensors",
}


def card_of(format_name, **facts):
    card = model_card({**FACTS, "format": format_name, **facts}, "me/whisper-fy")
    _, front, text = card.split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.parametrize(
    ("format_name", "library"),
    [
        ("huggingface", "transformers"),
        ("peft", "peft"),
        ("ctranslate2", "ctranslate2"),
        ("adapter", "speechbrain-sumra"),
    ],
)
def test_front_matter(format_name, library):
    front, _ = card_of(format_name)
    assert front["library_name"] == library
    assert front["base_model"] == "openai/whisper-base"
    assert front["language"] == "fy"
    assert front["pipeline_tag"] == "automatic-speech-recognition"
    assert {"whisper", "sumra", "speechbrain-sumra"} <= set(front["tags"])
    (index,) = front["model-index"]
    (metric,) = index["results"][0]["metrics"]
    assert metric["type"] == "wer" and metric["value"] == 62.73


@pytest.mark.parametrize("format_name", LOADING)
def test_how_to_load_is_python_and_names_repository_and_language(format_name):
    _, text = card_of(format_name)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ast.parse(code)
    assert '"me/whisper-fy"' in code
    assert format_name == "huggingface" or '"la"' in code or '"fy-NL"' in code
    assert "62.73 %" in text and "at rank 32" in text


def test_a_pinned_base_model_is_named_as_the_hub_wants_it():
    front, text = card_of("peft", base_model="openai/whisper-base@e37978b")
    assert front["base_model"] == "openai/whisper-base"
    assert text.count('from_pretrained("openai/whisper-base", revision="e37978b")') == 2
    assert text.startswith("\n# whisper-base, adapted")
    assert 'from_pretrained("openai/whisper-base")' in card_of("peft")[1]


def test_a_stand_in_for_the_language_is_explained():
    assert '`"la"` stands for it' in card_of("peft")[1]
    assert "stands for it" not in card_of("peft", locale="sv-SE", language="sv")[1]


def test_what_is_not_known_is_left_out(tmp_path):
    card = model_card({"format": "huggingface", "base_model": str(tmp_path)}, "me/a")
    front = yaml.safe_load(card.split("---\n")[1])
    assert not {"base_model", "language", "model-index"} & set(front)
    assert "None" not in card
