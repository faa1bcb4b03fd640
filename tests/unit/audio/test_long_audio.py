"""Long audio: all that can be heard, cut in pauses, never much of it in memory."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_sumra.audio import long_audio
from speechbrain_sumra.audio.audio_file import AudioError
from speechbrain_sumra.audio.long_audio import MAX_SECONDS, read_segments
from speechbrain_sumra.data import read_audio

RATE = 8000
LONG = 2.0  # silence that is left out
KEPT = 0.5  # of it stays, at most


def sound(seconds, level=0.1, rate=RATE, seed=0):
    """Noise: what can be heard, or with a low level cannot."""
    noise = np.random.default_rng(seed).normal(0, level, round(seconds * rate))
    return noise.astype(np.float32)


def write(path, *parts, rate=RATE, **kind):
    soundfile.write(path, np.concatenate(parts), rate, **kind)
    return path


def layout(seed, number=25):
    """Bursts of sound of some seconds, pauses between them, and the samples."""
    random = np.random.default_rng(seed)
    bursts, parts, now = [], [], 0.0
    for i in range(number):
        long = random.random() < 0.3
        pause = random.uniform(2.5, 60) if long else random.uniform(0.5, 1.5)
        burst = random.uniform(0.3, 9)
        level = random.choice([0.001, 0.0])  # -60 dB
        parts += [sound(pause, 0.3 * level, seed=i), sound(burst, seed=i)]
        bursts.append((now + pause, now + pause + burst))
        now += pause + burst
    return bursts, np.concatenate([*parts, np.zeros(RATE, np.float32)])


@pytest.mark.parametrize("seed", range(8))
def test_segments_hold_all_that_can_be_heard_and_end_in_pauses(tmp_path, seed):
    bursts, samples = layout(seed)
    segments = list(read_segments(write(tmp_path / "a.wav", samples)))
    assert len(segments) > 5
    previous = 0.0
    for segment in segments:
        assert previous <= segment.start < segment.end
        previous = segment.end
        length = segment.end - segment.start
        assert length <= MAX_SECONDS
        assert len(segment.samples) == pytest.approx(length * 16000, abs=2)
    tolerance = 2 * long_audio.FRAME
    for start, end in bursts:
        holding = [
            segment
            for segment in segments
            if segment.start <= start + tolerance and end - tolerance <= segment.end
        ]
        assert len(holding) == 1
    ends = [0.0, *(end for _, end in bursts)]
    for (start, _), end in zip(bursts, ends, strict=False):
        if start - end > LONG + 0.1:
            inside = [
                min(segment.end, start) - max(segment.start, end)
                for segment in segments
            ]
            assert sum(max(0.0, length) for length in inside) <= 2 * KEPT


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (RATE, 1)])
@pytest.mark.parametrize("seconds", [0.01, 6.0, MAX_SECONDS])
def test_a_short_file_is_one_segment_as_it_is(tmp_path, rate, channels, seconds):
    samples = sound(seconds, rate=rate * channels).reshape(-1, channels)
    samples[len(samples) // 2 :] = 0
    path = write(tmp_path / "a.wav", samples, rate=rate)
    [segment] = read_segments(path)
    assert (segment.start, segment.end) == (0.0, pytest.approx(seconds))
    assert torch.equal(segment.samples, read_audio(str(path)))


def test_a_little_more_than_the_limit_is_two_segments(tmp_path):
    path = write(tmp_path / "a.wav", sound(MAX_SECONDS + 0.2))
    first, second = read_segments(path)
    assert first.start == 0 and first.end == second.start
    assert second.end == pytest.approx(MAX_SECONDS + 0.2)


def test_sound_without_pauses_is_cut_where_it_is_quietest(tmp_path):
    parts = [sound(17), sound(0.5, 0.03), sound(4), sound(0.5, 0.015), sound(17)]
    first, *_ = read_segments(write(tmp_path / "a.wav", *parts))
    assert 21.5 < first.end < 22.0


def test_noise_is_no_reason_not_to_find_pauses(tmp_path):
    hum = sound(60, 0.004)  # -48 dB
    for start in (5, 14, 40, 52):
        hum[start * RATE : (start + 4) * RATE] += sound(4)
    path = write(tmp_path / "a.wav", hum)
    spans = [(segment.start, segment.end) for segment in read_segments(path)]
    expected = [(4.7, 9.3), (13.7, 18.3), (39.7, 44.3), (51.7, 56.3)]
    assert np.allclose(spans, expected, atol=0.05)


@pytest.mark.parametrize("seconds", [3, 100])
@pytest.mark.parametrize("level", [0.0, 0.0003, 0.005])
def test_silence_has_no_segments(tmp_path, seconds, level):
    path = write(tmp_path / "a.wav", sound(seconds, level) + 0.1)  # and an offset
    assert list(read_segments(path)) == []


def test_little_is_in_memory_at_a_time(tmp_path, monkeypatch):
    blocks, windows = [], []
    read, fill = soundfile.SoundFile.read, long_audio._Window.fill

    def counting_read(self, frames, **settings):
        blocks.append(frames)
        return read(self, frames, **settings)

    def counting_fill(self):
        fill(self)
        windows.append(len(self.samples))

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    monkeypatch.setattr(long_audio._Window, "fill", counting_fill)
    minute = np.concatenate([sound(50), np.zeros(10 * RATE, np.float32)])
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(30):
            file.write(minute)
    tracemalloc.start()
    heard = sum(segment.end - segment.start for segment in read_segments(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    limit = MAX_SECONDS * RATE
    assert heard == pytest.approx(30 * 50.6, abs=1)
    assert max(blocks) <= limit and max(windows) <= limit
    assert len(windows) > 60
    assert peak < 20 * limit * 4 < 30 * minute.nbytes


@pytest.mark.parametrize("seconds", [3, 100])
def test_what_is_longer_than_the_limit_is_read_no_further(tmp_path, seconds):
    path = write(tmp_path / "a.wav", sound(seconds))
    assert sum(s.end - s.start for s in read_segments(path, seconds)) > seconds - 1
    heard = []
    with pytest.raises(AudioError, match=r"a\.wav is longer than 2 s"):
        heard.extend(read_segments(path, 2))
    assert not heard


@pytest.mark.parametrize("rate", [11127, 44056, 1000, 192_000])
def test_odd_rates_keep_durations(tmp_path, rate):
    path = write(tmp_path / "a.wav", sound(2, rate=rate), rate=rate)
    [segment] = read_segments(path)
    assert segment.end == pytest.approx(2, abs=1e-4)
    assert len(segment.samples) / 16000 == pytest.approx(2, rel=1e-3)
