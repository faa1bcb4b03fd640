"""The stock ways do the same job: a tiny Whisper, a few clips, in this process."""

import json
import shutil
from dataclasses import replace

import pytest
import stock_speechbrain
import stock_transformers
from common_voice_prepare import prepare_common_voice
from job import Job, read_manifest


@pytest.fixture(scope="module")
def job(tiny_whisper, whisper_base, synthetic_corpus, tmp_path_factory):
    """An epoch of three steps with one validation, but for where it writes."""
    folder = tmp_path_factory.mktemp("stock")
    whisper = shutil.copytree(tiny_whisper, folder / "whisper")
    shutil.copy(whisper_base / "generation_config.json", whisper)
    prepare_common_voice(synthetic_corpus, folder / "manifests", "eo")
    return Job(
        whisper=str(whisper),
        manifests=str(folder / "manifests"),
        data_folder=str(synthetic_corpus),
        output="",
        epochs=1,
        validations=1,
        rank=2,
        max_tokens=5,
    )


@pytest.mark.parametrize("stock", [stock_speechbrain, stock_transformers])
def test_it_trains_validates_and_tests(stock, job, tmp_path):
    stock.main(replace(job, output=str(tmp_path)))
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["seconds"]) == {"load", "train", "validate", "test"}
    assert all(seconds > 0 for seconds in result["seconds"].values())
    # Two layers: rank 2 on eight maps of 16 to 16, and on 16 to 32 and back.
    assert result["trained_parameters"] == 2 * 2 * (8 * (16 + 16) + 2 * (16 + 32))
    assert len(result["valid_wers"]) == 1
    assert result["test_wer"] > 0
    assert result["job"]["output"] == str(tmp_path)


def test_a_manifest_is_read(job):
    clips = read_manifest(job, "train")
    assert len(clips) == 12
    assert set(clips[0]) == {"id", "wav", "text", "duration"}
    assert clips[0]["wav"].startswith(job.data_folder)
