"""Transcription with the real whisper-base and real speech."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from languages import Languages

from speechbrain_sumra.audio.long_audio import MAX_SECONDS, read_segments
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.features import EncoderStates
from speechbrain_sumra.inference import Transcriber
from speechbrain_sumra.restore import load_adapted
from speechbrain_sumra.whisper.decoding import GreedySearcher

pytestmark = pytest.mark.real

TOKENS = 20


@pytest.fixture(scope="module")
def clips(real_speech):
    paths = sorted((real_speech / "hsb" / "clips").glob("*.mp3"))
    assert len(paths) > 40
    return paths


@pytest.fixture(scope="module")
def languages(whisper_base, tmp_path_factory):
    """Two languages that say other things than Whisper alone."""
    languages = Languages(tmp_path_factory.mktemp("real"), whisper_base, std=0.003)
    for seed, locale in enumerate(["hsb", "xx"]):
        model = languages.model(seed, context="clip", rank=32)
        languages.save(f"adapters/{locale}", model, locale=locale)
    return languages


def as_the_recipe(languages, locale, paths):
    """Texts as training's validation would have them, one by one."""
    file = languages.folder / "adapters" / f"{locale}.safetensors"
    model, _ = load_adapted(file, **languages.places)
    searcher, states = GreedySearcher(model, TOKENS), EncoderStates("off")
    texts = []
    for path in paths:
        tokens = searcher(*states([str(path)], model))
        text = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0]
        texts.append(text.strip())
    return texts


@pytest.fixture(scope="module")
def mixed_files(clips, tmp_path_factory):
    """Good and bad files, and which of them are good."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "text.wav").write_text("no audio")
    (folder / "empty.mp3").write_bytes(b"")
    samples, rate = soundfile.read(clips[3])
    samples[100] = np.nan
    soundfile.write(folder / "nan.wav", samples, rate, subtype="FLOAT")
    bad = sorted(folder.iterdir())
    return [clips[0], bad[0], clips[1], bad[1], bad[2], clips[2]], [0, 2, 5]


def test_the_command_says_what_the_recipe_would(languages, mixed_files, clips):
    files, good = mixed_files
    expected = as_the_recipe(languages, "hsb", clips[:4])
    assert len(set(expected)) == 4
    settings = ["--adapter", languages.folder / "adapters", "--locale", "hsb"]
    settings += ["--precision", "fp32", "--max_tokens", TOKENS, "--format", "json"]
    for name, place in languages.places.items():
        settings += [f"--{name}", place]
    command = [sys.executable, "-m", "speechbrain_sumra.cli", "transcribe"]
    with open(clips[3], "rb") as stdin:
        done = subprocess.run(
            [str(part) for part in [*command, *settings, *files, "-"]],
            stdin=stdin,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    sources = [str(file) for file in files]
    assert [result["source"] for result in results] == [*sources, "<stdin>"]
    good = [*good, len(files)]
    assert [results[i]["text"] for i in good] == expected
    assert all(results[i]["error"] is None for i in good)
    bad = [i for i in range(len(files)) if i not in good]
    lines = done.stderr.splitlines()
    assert len(lines) == len(bad)
    for line, i in zip(lines, bad, strict=True):
        assert sources[i] in line and results[i]["error"] in line


def test_files_of_two_languages_at_once(languages, mixed_files):
    files, good = mixed_files
    transcriber = Transcriber.from_adapters(
        languages.folder / "adapters", max_tokens=TOKENS, **languages.places
    )
    locales = ["hsb", "hsb", "xx", "xx", None, "xx"]
    results = transcriber.transcribe_files(files, locales, progress=False)
    expected = {
        locale: as_the_recipe(languages, locale, [files[i] for i in good])
        for locale in ("hsb", "xx")
    }
    assert results[0].text == expected["hsb"][0] != expected["xx"][0]
    assert [results[i].text for i in good[1:]] == expected["xx"][1:]
    assert [result.error is None for result in results] == [
        i in good for i in range(len(files))
    ]


def test_a_real_clip_is_one_segment_as_it_is(clips):
    for path in clips[:40]:
        [segment] = read_segments(path)
        assert torch.equal(segment.samples, read_audio(str(path)))


def test_a_long_recording_is_cut_where_nobody_speaks(languages, clips, tmp_path):
    rate, parts = 16000, []
    for i, path in enumerate(clips[:20]):
        pause = np.zeros(int(rate * (0.6 if i % 3 else 4)), np.float32)
        parts += [read_audio(str(path)).numpy(), pause]
    recording = np.concatenate(parts)
    path = tmp_path / "long.mp3"
    soundfile.write(path, recording, rate)
    file = languages.folder / "adapters" / "hsb.safetensors"
    transcriber = Transcriber.from_adapters(file, max_tokens=TOKENS, **languages.places)
    [result] = transcriber.transcribe_files([path], progress=False)
    segments = result.segments
    assert result.error is None and result.text
    assert max(segment.end - segment.start for segment in segments) <= MAX_SECONDS
    # 7 pauses are long, and no more than 15 s are left together between them.
    assert len(segments) >= 10

    frame = rate // 20
    whole = recording[: len(recording) // frame * frame].reshape(-1, frame).std(axis=1)
    speech = np.percentile(whole, 90)
    edges = [segment.start for segment in segments] + [result.segments[-1].end]
    for edge in edges[1:]:
        at = int(edge * rate)
        assert recording[at - frame // 2 : at + frame // 2].std() < speech / 10
    heard = np.flatnonzero(whole > speech / 3) * frame / rate
    for time in heard:
        assert any(segment.start <= time <= segment.end for segment in segments)
