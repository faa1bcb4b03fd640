"""Audio by somebody who means harm, or cut off on its way."""

import struct

import numpy as np
import pytest
import soundfile
import torch
from common_voice_prepare import prepare_common_voice
from corpus import ids_of, make_locale, report_of, write_tsv

from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.adapter_file import save_adapter
from speechbrain_sumra.adapters import SumRA
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.inference import Transcriber
from speechbrain_sumra.whisper import Whisper


def tone(seconds, rate, channels=1):
    """Something to hear."""
    wave = 0.1 * np.sin(np.arange(round(seconds * rate)) * 1000 / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def wav(path, seconds=1.0, rate=16000, channels=1, **kwargs):
    """A wav file; its bytes."""
    soundfile.write(path, tone(seconds, rate, channels), rate, **kwargs)
    return path.read_bytes()


def ten_hours(path):
    content = bytearray(wav(path))
    size = 10 * 3600 * 16000 * 2
    content[4:8] = struct.pack("<I", size + 36)
    content[40:44] = struct.pack("<I", size)
    return bytes(content)


def one_sample(path, value):
    samples = tone(1, 16000)[:, 0].astype(np.float32)
    samples[5000] = value
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path.read_bytes()


def mp3(path):
    soundfile.write(path.with_suffix(".mp3"), tone(3, 16000), 16000, format="MP3")
    return path.with_suffix(".mp3").read_bytes()


# Files that are no speech, each left out with a reason.
BROKEN = {
    "says 10 h.wav": ten_hours,
    "no samples.wav": lambda path: wav(path, 0),
    "not a number.wav": lambda path: one_sample(path, np.nan),
    "too loud.wav": lambda path: one_sample(path, 1e30),
    "cut.wav": lambda path: wav(path)[:9000],
    "cut.mp3": lambda path: mp3(path)[:1500],
    "text.wav": lambda path: b"This is no audio.\n" * 100,
    "html.mp3": lambda path: b"<html><body>404</body></html>" * 50,
    "nothing.wav": lambda path: b"",
    "header.wav": lambda path: wav(path)[:44],
    "zeros.mp3": lambda path: bytes(5000),
    "1024 channels.wav": lambda path: wav(path, 0.001, 384_000, channels=1024),
    "program.ogg": lambda path: b"\x7fELF" + bytes(range(256)) * 20,
}
# Strange, but audio.
USABLE = {
    "8 channels.wav": lambda path: wav(path, channels=8),
    "8 kHz.wav": lambda path: wav(path, rate=8000),
    "192 kHz.wav": lambda path: wav(path, rate=192_000),
    "44101 Hz.wav": lambda path: wav(path, rate=44_101),
    "one sample.wav": lambda path: wav(path, 1 / 16000),
    "24 bit.wav": lambda path: wav(path, subtype="PCM_24"),
    "whole.mp3": mp3,
}


@pytest.fixture
def clips(tmp_path):
    """All of these files, by name."""
    folder = tmp_path / "cv" / "eo" / "clips"
    make_locale(folder.parent, train=1)
    for name, make in {**BROKEN, **USABLE}.items():
        (folder / name).write_bytes(make(folder / f"of {name}"))
    return folder


@pytest.mark.fault(
    fault="hostile audio in a corpus",
    provoked=", ".join(BROKEN),
    result="left out and counted with the reason; strange formats are used: "
    + ", ".join(USABLE),
)
def test_a_corpus_with_them(clips, tmp_path):
    names = [*BROKEN, *USABLE]
    write_tsv(clips.parent / "train.tsv", [(name, "saluton") for name in names])
    paths = prepare_common_voice(tmp_path / "cv", tmp_path / "out", "eo")
    assert set(ids_of(paths["train"])) == {name.rpartition(".")[0] for name in USABLE}
    dropped = report_of(paths)["splits"]["train"]["dropped"]
    found = dropped["unreadable_audio"]["clips"] + dropped["zero_length"]["clips"]
    assert set(found) == set(BROKEN)
    for name in USABLE:
        samples = read_audio(str(clips / name))
        assert samples.ndim == 1 and torch.isfinite(samples).all()
        expected = {"whole.mp3": 48000, "one sample.wav": 1}.get(name, 16000)
        assert len(samples) == pytest.approx(expected, rel=0.05)


@pytest.mark.fault(
    fault="hostile audio to transcribe",
    provoked="the same files in one batch with good ones",
    result="each has one clear error; the others are transcribed",
)
def test_a_batch_with_them(clips, tiny_whisper, tmp_path):
    base = Whisper(tiny_whisper, tmp_path / "pretrained", "none", "eo")
    model = AdaptedWhisper(base, SumRA, {"rank": 4}, tmp_path / "basis")
    save_adapter(
        tmp_path / "eo.safetensors", model, locale="eo", base_model=str(tiny_whisper)
    )
    transcriber = Transcriber.from_adapters(
        tmp_path / "eo.safetensors",
        pretrained_folder=tmp_path / "pretrained",
        basis_folder=tmp_path / "basis",
    )
    names = [*USABLE, *BROKEN, "train_0.wav", "missing.wav", "null\0.wav"]
    paths = [clips / name for name in names]
    for path, result in zip(
        paths, transcriber.transcribe_files(paths, progress=False), strict=True
    ):
        broken = path.name in [*BROKEN, "missing.wav", "null\0.wav"]
        if broken:
            assert path.name in result.error and "\n" not in result.error
        else:
            assert result.error is None
