"""Random languages are what a bank takes, and the tables say what was measured."""

import json
from pathlib import Path

import pytest
import torch
from bank_files import measure_files
from bank_throughput import make_bank
from bench_bank import ratios, table
from random_languages import write_languages

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "results" / "bench" / "bank.json"


def test_random_languages_are_small_changes_of_the_base_model(tiny_whisper, tmp_path):
    files = write_languages(str(tiny_whisper), tmp_path, 4, 3)
    assert [file.name for file in files] == [
        "00000.safetensors",
        "00001.safetensors",
        "00002.safetensors",
    ]
    bank = make_bank(str(tiny_whisper), tmp_path, files, "fp32")
    logits = {}
    for locale in (None, *bank.locales):
        bank.use(locale)
        tokens, states = torch.full((1, 5), 300), torch.ones(1, 9, 16)
        logits[locale], _ = bank.whisper.next_logits(states, tokens)
    first, *others = logits.values()
    for other in others:
        assert 1e-3 < (other - first).abs().max() < 0.5 * first.abs().max()


def test_all_rows_decode_the_same_number_of_tokens(tiny_whisper, tmp_path):
    files = write_languages(str(tiny_whisper), tmp_path, 4, 2)
    bank = make_bank(str(tiny_whisper), tmp_path, files, "fp32")
    states, lengths = torch.randn(4, 30, 16), torch.tensor([30, 20, 30, 10])
    found = bank.decode(states, lengths, [*bank.locales, *bank.locales])
    assert {len(tokens) for tokens in found} == {40}


def test_a_language_takes_less_than_half_a_lora_and_its_norms(tiny_whisper, tmp_path):
    facts = measure_files(str(tiny_whisper), tmp_path, 4)
    assert facts["fp16"]["bytes"] < facts["fp32"]["bytes"] < facts["peft"]["bytes"]
    for kind in facts.values():
        ten_thousand, one = kind["10000_languages"], kind["1_languages"]
        assert ten_thousand - one == 9999 * kind["bytes"]


@pytest.mark.skipif(not RESULT.exists(), reason="no results yet")
def test_the_page_shows_the_file():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "bank.md").read_text(encoding="utf-8")
    assert f"<!-- bench -->\n{table(result)}<!-- /bench -->" in page
    found = ratios(result["throughput"], result["files"], result["switching"])
    assert result["ratios"] == found
