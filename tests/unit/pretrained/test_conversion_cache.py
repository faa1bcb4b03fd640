"""Conversions are kept, and made again when they must be."""

import re
import shutil
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
    assert first.parent == tmp_path / "cache"
    assert re.fullmatch("tiny-[0-9a-f]{8}-hf", first.name)
    before = weights_state(first)
    assert weights_state(fetch_whisper(str(own_folder), tmp_path / "cache")) == before


def test_a_conversion_without_a_hash_in_its_name_is_used(own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    old = folder.rename(tmp_path / "cache" / "tiny-hf")
    assert fetch_whisper(str(own_folder), tmp_path / "cache") == old
    other = tiny_whisper(seed=5)
    (own_folder / "model.bin").write_bytes(ct2_bytes(ct2_variables(other)))
    assert fetch_whisper(str(own_folder), tmp_path / "cache") != old


def test_changed_source_is_converted_again(tiny, own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    other = tiny_whisper(seed=5)
    (own_folder / "model.bin").write_bytes(ct2_bytes(ct2_variables(other)))
    changed = fetch_whisper(str(own_folder), tmp_path / "cache")
    assert torch.equal(logits(load(changed)), logits(other))
    assert torch.equal(logits(load(folder)), logits(tiny))


def test_models_of_one_name_are_kept_beside_each_other(tiny, own_folder, tmp_path):
    namesake = shutil.copytree(own_folder, tmp_path / "other" / own_folder.name)
    other = tiny_whisper(seed=5)
    (namesake / "model.bin").write_bytes(ct2_bytes(ct2_variables(other)))
    folders = {fetch_whisper(str(own_folder), tmp_path / "cache"): tiny}
    folders[fetch_whisper(str(namesake), tmp_path / "cache")] = other
    assert len(folders) == 2
    for folder, model in folders.items():
        assert torch.equal(logits(load(folder)), logits(model))


def test_damaged_conversion_is_made_again(tiny, own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    left_behind = tmp_path / "cache" / f".{folder.name}-tmp-killed"
    left_behind.mkdir()
    fetch_whisper(str(own_folder), tmp_path / "cache")
    assert torch.equal(logits(load(folder)), logits(tiny))
    assert not left_behind.exists()


def test_foreign_folder_is_not_replaced(own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    shutil.rmtree(folder)
    mine = folder / "thesis.txt"
    mine.parent.mkdir()
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
    assert len({job.result() for job in jobs}) == 1
    assert len(calls) == 1


def test_truncated_and_empty_folders(own_folder, tmp_path):
    model = own_folder / "model.bin"
    for content in (model.read_bytes()[:5000], b""):
        model.write_bytes(content)
        with pytest.raises(CTranslate2FormatError, match="truncated"):
            fetch_whisper(str(own_folder), tmp_path / "cache")
