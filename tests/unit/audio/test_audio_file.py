"""Audio files: all of the good ones, and what is wrong with the others."""

import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile

from speechbrain_sumra.audio.audio_file import BLOCK, AudioError, open_audio

RATE = 16000


def sound(seconds, level=0.1):
    noise = np.random.default_rng(0).normal(0, level, round(seconds * RATE))
    return noise.astype(np.float32)


def write(path, samples, rate=RATE, **kind):
    soundfile.write(path, samples, rate, **kind)
    return path


def read(source, seconds=28):
    """All samples of a file, read in parts."""
    with open_audio(source) as audio:
        parts = []
        while not audio.ended:
            parts.append(audio.read(seconds * audio.rate))
            assert audio.position == sum(map(len, parts))
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", ["MP3", "OGG", "FLAC", "WAV"])
def test_reading_in_parts_changes_no_sample(tmp_path, capfd, kind):
    path = write(tmp_path / f"a.{kind.lower()}", sound(70), format=kind)
    whole, _ = soundfile.read(path, dtype="float32")
    assert len(whole) == 70 * RATE
    assert np.allclose(read(path), whole, atol=1e-6)
    assert capfd.readouterr().err == ""  # libsndfile and its like write there


def test_channels_become_one(tmp_path):
    left, right = sound(1), np.zeros(RATE, np.float32)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    assert np.allclose(read(path), left / 2)


def without_length(path, id3=b""):
    """An mp3 file whose first frame, which says how long it is, is gone."""
    content = path.read_bytes()
    start = content.index(b"\xff", 4)
    while content[start + 1] != content[1]:
        start = content.index(b"\xff", start + 1)
    assert b"Xing" in content[:start] and b"Xing" not in content[start:]
    path.write_bytes(id3 + content[start:])


@pytest.mark.parametrize("id3", [b"", b"ID3\4\0\0\0\0\x0f\x01" + bytes(15 * 128 + 1)])
@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_file_of_unknown_length_is_read_to_its_end(tmp_path, id3, loud_first):
    parts = [sound(60), np.zeros(60 * RATE, np.float32)]
    samples = np.concatenate(parts if loud_first else parts[::-1])
    kind = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
    path = write(tmp_path / "a.mp3", samples, **kind)
    without_length(path, id3)
    guess = soundfile.info(path).duration
    assert guess < 60 if loud_first else guess > 180
    found = read(path)
    assert len(found) / RATE == pytest.approx(120, abs=0.3)
    loud = np.abs(found).reshape(-1)[: 120 * RATE].reshape(120, -1).max(axis=1) > 0.05
    assert 58 < loud.sum() < 62 and loud[5] == loud_first and loud[115] != loud_first


class Pipe(io.BytesIO):
    """What stdin is when another program writes to it."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation("a pipe")

    tell = seek


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
@pytest.mark.parametrize("file", [io.BytesIO, Pipe])
def test_bytes_are_read_as_files_are(tmp_path, kind, file):
    path = write(tmp_path / "a", sound(40), format=kind)
    found = read(file(path.read_bytes()))
    assert len(found) == 40 * RATE and np.array_equal(found, read(path))


def test_a_named_pipe_is_read(tmp_path):
    content = write(tmp_path / "a.wav", sound(3)).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(
        target=(tmp_path / "pipe").write_bytes, args=[content], daemon=True
    )
    writer.start()
    assert len(read(tmp_path / "pipe")) == 3 * RATE


def test_a_wav_file_of_unknown_length_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.wav", sound(30))
    content = bytearray(path.read_bytes())
    data = content.index(b"data") + 4
    content[4:8] = content[data : data + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read(path)) == 30 * RATE


def truncated(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


@pytest.mark.parametrize("seconds", [4, 60])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_a_truncated_file_says_how_much_is_missing(tmp_path, kind, seconds):
    path = write(tmp_path / f"a.{kind.lower()}", sound(seconds), format=kind)
    truncated(path, 0.6)
    with pytest.raises(AudioError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "truncated" in str(caught.value)


def nan(path):
    samples = sound(40)
    samples[35 * RATE] = np.nan
    write(path, samples, subtype="FLOAT")


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "is empty: 0 bytes"),
    "text": (
        lambda path: path.write_text("words, not sounds"),
        "is no audio (libsndfile: Format not recognised), found 17 bytes",
    ),
    "nan": (nan, "no sound, nan at 35.00 s"),
    "infinite": (
        lambda path: write(path, np.full(100, np.inf), subtype="FLOAT"),
        "no sound, inf at 0.00 s",
    ),
    "no samples": (lambda path: write(path, np.zeros(0)), "holds no samples"),
    "header alone": (
        lambda path: path.write_bytes(write(path, sound(1)).read_bytes()[:20]),
        "truncated: its header says 32044 bytes, found 20",
    ),
    "folder": (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "missing": (lambda path: None, "cannot be read: No such file"),
    "rate": (lambda path: write(path, sound(1), rate=100), "sample rate of 100 Hz"),
    "channels": (
        lambda path: write(path, np.zeros((100, 1024)), rate=384_000),
        "has 1024 channels; expected 1 to 32",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_audio_is_one_error_that_names_the_file(tmp_path, kind):
    make, found = BAD[kind]
    path = tmp_path / "clip.wav"
    make(path)
    with pytest.raises(AudioError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and found in message
    assert "\n" not in message


def test_a_path_that_no_file_can_have_is_an_error():
    with pytest.raises(AudioError, match="no path holds a null character"):
        read("a\0.wav")


def test_a_header_takes_no_memory(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).normal(0, 0.1, (100_000, 32))
    path = write(tmp_path / "a.wav", samples, rate=384_000, subtype="FLOAT")
    blocks = []
    read_block = soundfile.SoundFile.read

    def counting_read(self, frames, **settings):
        blocks.append(frames * self.channels)
        return read_block(self, frames, **settings)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    found = read(path)  # asks for 28 s, which would be 1.4 GB
    assert len(blocks) > 1 and max(blocks) <= BLOCK
    assert np.allclose(found, samples.mean(axis=1), atol=1e-6)


def test_a_file_without_channels_is_an_error(tmp_path):
    path = write(tmp_path / "a.wav", sound(1))
    content = bytearray(path.read_bytes())
    content[22:24] = b"\0\0"
    path.write_bytes(content)
    with pytest.raises(AudioError, match="is no audio"):
        read(path)


def test_a_bad_file_object_is_named_too():
    with pytest.raises(AudioError, match="^audio is empty"):
        read(io.BytesIO(b""))
