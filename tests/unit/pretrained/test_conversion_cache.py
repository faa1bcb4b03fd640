"""Conversions are kept, and made again when they must be."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from ctranslate2_writer import ct2_bytes, ct2_variables, load, logits, tiny_whisper

from speechbrain_sumra.pretrained import conversion_cache, fetch_whisper
from speechbrain_sumra.pretrained.ctranslate2_format import CTranslate2FormatError


def weights_state(folder):
    stat = (folder / "model.safetensors").stat()
    return stat.st_ino, stat.st_mtime_ns


def test_conversion_is_made_once(own_folder, tmp_path):
    first = fetch_whisper(str(own_folder), tmp_path / "cache")
    assert first == tmp_path / "cache" / "tiny-hf"
    before = weights_state(first)
    assert weights_state(fetch_whisper(str(own_folder), tmp_path / "cache")) == before


def test_changed_source_is_converted_again(own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    other = tiny_whisper(seed=5)
    (own_folder / "model.bin").write_bytes(ct2_bytes(ct2_variables(other)))
    assert fetch_whisper(str(own_folder), tmp_path / "cache") == folder
    assert torch.equal(logits(load(folder)), logits(other))


def test_damaged_conversion_is_made_again(tiny, own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    left_behind = tmp_path / "cache" / ".tiny-hf-tmp-killed"
    left_behind.mkdir()
    fetch_whisper(str(own_folder), tmp_path / "cache")
    assert torch.equal(logits(load(folder)), logits(tiny))
    assert not left_behind.exists()


def test_foreign_folder_is_not_replaced(own_folder, tmp_path):
    mine = tmp_path / "cache" / "tiny-hf" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(FileExistsError, match="not made by a conversion"):
        fetch_whisper(str(own_folder), tmp_path / "cache")
    assert mine.read_text() == "years of work"


def test_simultaneous_conversions(own_folder, tmp_path, monkeypatch):
    calls = []
    real = conversion_cache.convert_to_huggingface

    def counted(*arguments):
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(conversion_cache, "convert_to_huggingface", counted)
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(fetch_whisper, str(own_folder), tmp_path / "cache")
            for _ in range(3)
        ]
    assert {job.result() for job in jobs} == {tmp_path / "cache" / "tiny-hf"}
    assert len(calls) == 1


def test_truncated_and_empty_folders(own_folder, tmp_path):
    model = own_folder / "model.bin"
    for content in (model.read_bytes()[:5000], b""):
        model.write_bytes(content)
        with pytest.raises(CTranslate2FormatError, match="truncated"):
            fetch_whisper(str(own_folder), tmp_path / "cache")
