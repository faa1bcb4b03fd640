"""Kept encoder states equal computed ones, whatever the batch, mode or fault."""

import errno
import logging
from concurrent.futures import ProcessPoolExecutor

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from speechbrain_sumra import features
from speechbrain_sumra.features import MODES, EncoderStates
from speechbrain_sumra.whisper import ENCODER_CONTEXTS, Whisper


@pytest.fixture
def clips(tmp_path):
    """Three audio files of 1, 0.5 and 0.75 s."""
    torch.manual_seed(0)
    paths = []
    for number, samples in enumerate((16000, 8000, 12000)):
        paths.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(paths[-1], torch.randn(samples).numpy() / 10, 16000)
    return paths


@pytest.fixture(params=ENCODER_CONTEXTS)
def whisper(request, tiny_whisper, tmp_path):
    return Whisper(tiny_whisper, tmp_path, encoder_context=request.param)


@pytest.fixture
def encoded(monkeypatch):
    """The files that were encoded."""
    calls, encode = [], EncoderStates._encode

    def count(states, path, *others):
        calls.append(path)
        return encode(states, path, *others)

    monkeypatch.setattr(EncoderStates, "_encode", count)
    return calls


@pytest.mark.parametrize("mode", MODES)
def test_modes_give_the_same_states(clips, whisper, tmp_path, encoded, mode):
    states = EncoderStates(mode, tmp_path / "features")
    first, lengths = states(clips, whisper)
    again, _ = states(clips, whisper)
    assert len(encoded) == (6 if mode == "off" else 3)
    expected, _ = EncoderStates("off")(clips, whisper)
    assert torch.equal(first, again) and torch.equal(first, expected)
    counts = [whisper.count_states(n) for n in (16000, 8000, 12000)]
    assert lengths.tolist() == counts and first.shape[1] == max(counts)

    alone, _ = states([clips[1]], whisper)
    assert torch.equal(alone[0], first[1, : counts[1]])
    assert not first[1, counts[1] :].any()


def test_states_on_disk_outlive_the_process(clips, whisper, tmp_path, encoded):
    EncoderStates("disk", tmp_path / "features")(clips, whisper)
    EncoderStates("disk", tmp_path / "features")(clips, whisper)
    assert len(encoded) == 3


def test_content_settings_and_base_model_are_the_key(
    clips, tiny_whisper, tmp_path, encoded
):
    states = EncoderStates("disk", tmp_path / "features")
    full = Whisper(tiny_whisper, tmp_path)
    states(clips[:1], full)
    copy = tmp_path / "copy.wav"
    copy.write_bytes((tmp_path / "0.wav").read_bytes())
    states([str(copy)], full)
    assert len(encoded) == 1  # the same audio by another name

    states(clips[:1], Whisper(tiny_whisper, tmp_path, encoder_context="clip"))
    assert len(encoded) == 2
    states(clips[:1], Whisper(tiny_whisper, tmp_path, adapted_encoder_layers=1))
    assert len(encoded) == 3
    full.base_fingerprint = "0" * 64
    states(clips[:1], full)
    assert len(encoded) == 4
    copy.write_bytes((tmp_path / "1.wav").read_bytes())
    states([str(copy)], full)
    assert len(encoded) == 5


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda file: file.write_bytes(file.read_bytes()[:-10]),
        lambda file: file.write_bytes(b""),
        lambda file: save_file(load_file(file), file),
        lambda file: save_file({"other": torch.ones(1)}, file),
    ],
)
def test_damaged_files_are_computed_again(
    clips, whisper, tmp_path, encoded, caplog, damage
):
    states = EncoderStates("disk", tmp_path / "features")
    expected, _ = states(clips, whisper)
    for file in (tmp_path / "features").rglob("*.safetensors"):
        damage(file)
    with caplog.at_level(logging.WARNING):
        again, _ = states(clips, whisper)
    assert torch.equal(again, expected) and len(encoded) == 6
    assert "computed again" in caplog.text
    states(clips, whisper)
    assert len(encoded) == 6


def test_a_full_disk_is_said_and_survived(
    clips, whisper, tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "_write", full)
    states = EncoderStates("disk", tmp_path / "features")
    with caplog.at_level(logging.WARNING):
        found, _ = states(clips, whisper)
    assert torch.equal(found, EncoderStates("off")(clips, whisper)[0])
    assert states.full and "No space left" in caplog.text


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_without_room_nothing_is_kept(clips, whisper, tmp_path, mode, caplog):
    states = EncoderStates(mode, tmp_path / "features", max_gigabytes=1e-6)
    with caplog.at_level(logging.INFO):
        states.plan(whisper, [1.0, 0.5, 0.75])
    assert "about 0.00 GB for 3 utterances" in caplog.text
    assert "--feature_cache_gb" in caplog.text
    states(clips, whisper)
    assert states.full and not states._memory
    assert caplog.text.count("There is no room for more encoder states") == 1
    assert not list((tmp_path / "features").rglob("*.safetensors"))


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_what_fits_is_kept(clips, whisper, tmp_path, mode, encoded, caplog):
    one = EncoderStates("off")(clips[:1], whisper)[0].nbytes // 2
    encoded.clear()
    states = EncoderStates(mode, tmp_path / "features", max_gigabytes=1.5 * one / 1e9)
    states.plan(whisper, [1.0, 1.0, 1.0])
    assert "--feature_cache_gb" in caplog.text
    for _ in range(2):
        states(clips, whisper)
    # One of three is found the second time.
    assert len(encoded) == 5 and states.full


def test_with_room_it_is_kept(clips, whisper, tmp_path, caplog):
    states = EncoderStates("disk", tmp_path / "features", max_gigabytes=1)
    states.plan(whisper, [1.0, 0.5, 0.75])
    states(clips, whisper)
    assert not states.full and "There is room for" not in caplog.text


def test_augmentation_is_said_to_cost_time(whisper, tmp_path, caplog):
    states = EncoderStates("disk", tmp_path / "features")
    with caplog.at_level(logging.WARNING):
        states.plan(whisper, [1.0])
        assert not caplog.text
        states.plan(whisper, [1.0], augmented=True)
    assert "augmented" in caplog.text and "computed each time" in caplog.text


@pytest.mark.parametrize("changed", ["precision", "context"])
def test_precision_and_context_are_keys_too(
    clips, tiny_whisper, tmp_path, encoded, changed
):
    precision, context = "fp32", "clip"
    for _ in range(2):
        whisper = Whisper(tiny_whisper, tmp_path, encoder_context=context)
        EncoderStates("disk", tmp_path / "f", precision=precision)(clips, whisper)
        if changed == "precision":
            precision = "bf16"
        else:
            context = "full"
    assert len(encoded) == 6


def test_augmented_states_are_not_kept(clips, whisper, tmp_path, encoded):
    states = EncoderStates("disk", tmp_path / "features")
    plain, _ = states(clips, whisper)
    quiet, _ = states(clips, whisper, lambda wav: wav * 0.5)
    assert len(encoded) == 6 and not torch.equal(plain, quiet)
    assert torch.equal(states(clips, whisper)[0], plain)


def fill(arguments):
    source, folder, paths = arguments
    torch.set_num_threads(1)
    whisper = Whisper(source, folder)
    return EncoderStates("disk", folder / "features")(paths, whisper)[0].sum().item()


def test_processes_share_a_folder(clips, tiny_whisper, tmp_path):
    with ProcessPoolExecutor(2) as pool:
        sums = list(pool.map(fill, [(tiny_whisper, tmp_path, clips)] * 4))
    assert len(set(sums)) == 1
    files = list((tmp_path / "features").rglob("*"))
    assert len([file for file in files if file.is_file()]) == 3


def test_the_limit_is_of_the_whole_folder(clips, whisper, tiny_whisper, tmp_path):
    folder = tmp_path / "features"
    first = EncoderStates("disk", folder)
    first(clips, whisper)
    kept = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    second = EncoderStates("disk", folder, max_gigabytes=1.1 * kept / 1e9)
    second.plan(Whisper(tiny_whisper, tmp_path, encoder_context="clip"), [1.0])
    assert 0 < second._room < 0.2 * kept
