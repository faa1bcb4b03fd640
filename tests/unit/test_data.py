"""Batches: parts of epochs cover all, targets follow the prompt."""

import pytest
import soundfile
import torch

from speechbrain_sumra.data import (
    IGNORED,
    EpochPartSampler,
    load_datasets,
    read_audio,
)
from speechbrain_sumra.whisper import Whisper


@pytest.mark.parametrize("number, parts", [(16, 8), (67, 8), (8, 8), (5, 1), (100, 3)])
@pytest.mark.parametrize("window", [1, 2])
def test_parts_of_an_epoch_cover_the_data(number, parts, window):
    sampler = EpochPartSampler(range(number), parts, 7, 4, window)
    seen = []
    for epoch in range(1, parts + 1):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert len(indices) == len(set(indices)) == len(sampler)
        seen += indices
    assert set(seen) == set(range(number))
    assert len(seen) - number < parts


def test_order_depends_on_seed_and_true_epoch_only():
    def order(seed, epoch):
        sampler = EpochPartSampler(range(40), 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(2, 3)
    assert order(1, 3) != order(1, 7)  # the same part of the next true epoch


def test_batches_are_of_like_length_and_in_random_order():
    lengths = torch.rand(256, generator=torch.Generator().manual_seed(0)).tolist()
    sampler = EpochPartSampler(lengths, 1, 0, 4, window=16)
    order = list(sampler)
    batches = [
        [lengths[i] for i in order[first : first + 4]] for first in range(0, 256, 4)
    ]
    padded = sum(4 * max(batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    firsts = [batch[0] for batch in batches]
    assert firsts != sorted(firsts) and firsts[:16] != sorted(firsts[:16])


def test_more_parts_than_data_is_an_error():
    with pytest.raises(ValueError, match="8 times an epoch on 5 training"):
        EpochPartSampler(range(5), 8, seed=0)


@pytest.mark.parametrize("rate, channels", [(16000, 1), (48000, 1), (8000, 2)])
def test_audio_is_mono_at_16_khz(tmp_path, rate, channels):
    path = str(tmp_path / "clip.wav")
    tone = torch.sin(torch.arange(rate) * 440 * 2 * torch.pi / rate)
    soundfile.write(path, tone.unsqueeze(1).repeat(1, channels).numpy(), rate)
    audio = read_audio(path)
    assert audio.shape == (16000,)
    assert audio.abs().max() == pytest.approx(1.0, abs=0.05)


@pytest.fixture
def manifest(tmp_path):
    def write(*sentences, duration=1):
        soundfile.write(tmp_path / "clip.wav", torch.zeros(16000).numpy(), 16000)
        rows = [
            f"{i},{duration + i},$data_root/clip.wav,{text},eo"
            for i, text in enumerate(sentences)
        ]
        path = tmp_path / "train.csv"
        path.write_text("\n".join(["ID,duration,wav,wrd,locale", *rows]) + "\n")
        return {"train": str(path)}, str(tmp_path)

    return write


def test_targets_are_the_text_and_the_end(manifest, tiny_whisper, tmp_path):
    whisper = Whisper(tiny_whisper, tmp_path, language="new", locale="eo")
    datasets, _ = load_datasets(*manifest("Saluton mondo."), whisper)
    item = datasets["train"][0]
    text = whisper.tokenizer.encode(" Saluton mondo.", add_special_tokens=False)
    assert item["wrd"] == "Saluton mondo."
    assert item["tokens_bos"].tolist() == whisper.prompt + text
    assert item["tokens_eos"].tolist() == [IGNORED] * 3 + text + [whisper.eos]


def test_each_utterance_is_prompted_with_its_own_language(
    manifest, tiny_whisper, tmp_path
):
    manifests, folder = manifest("Saluton", "Tere")
    path = tmp_path / "train.csv"
    path.write_text(path.read_text().replace("Saluton,eo", "Hej,sv-SE"))
    path.write_text(path.read_text().replace("Tere,eo", "Tere,et"))
    whisper = Whisper(tiny_whisper, tmp_path, language="own")
    datasets, _ = load_datasets(manifests, folder, whisper)
    for item, code in zip(datasets["train"], ("et", "sv"), strict=True):
        token = whisper.tokenizer.convert_tokens_to_ids(f"<|{code}|>")
        assert item["tokens_bos"][:4].tolist() == whisper.prompt_with(token)
        assert item["tokens_eos"][:3].tolist() == [IGNORED] * 3


def test_a_locale_that_whisper_does_not_know_has_no_token_of_its_own(
    manifest, tiny_whisper, tmp_path
):
    whisper = Whisper(tiny_whisper, tmp_path, language="own")
    with pytest.raises(ValueError, match="Unknown language 'eo'"):
        load_datasets(*manifest("Saluton"), whisper)


def test_what_cannot_be_scored_is_left_out_and_counted(
    manifest, tiny_whisper, tmp_path
):
    whisper = Whisper(tiny_whisper, tmp_path)
    too_long = "ĉ" * 500
    datasets, dropped = load_datasets(
        *manifest("Bone", too_long, "...", "Jes"), whisper
    )
    reasons = {"over_30_s": 0, "transcript_too_long": 1, "no_words": 1}
    assert dropped == {"train": reasons}
    assert [item["wrd"] for item in datasets["train"]] == ["Jes", "Bone"]


def test_clips_over_30_s_are_left_out_and_counted(manifest, tiny_whisper, tmp_path):
    whisper = Whisper(tiny_whisper, tmp_path)
    datasets, dropped = load_datasets(*manifest("Unu", "Du", duration=30), whisper)
    assert dropped["train"]["over_30_s"] == 1
    assert [item["wrd"] for item in datasets["train"]] == ["Unu"]


def test_nothing_left_is_an_error(manifest, tiny_whisper, tmp_path):
    whisper = Whisper(tiny_whisper, tmp_path)
    with pytest.raises(ValueError, match="no usable utterance: 1 in the manifest"):
        load_datasets(*manifest("?!"), whisper)
