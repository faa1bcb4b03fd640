"""Transcription: every file as if alone, whatever the others are."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from languages import Languages
from transformers import WhisperModel

from speechbrain_sumra import inference
from speechbrain_sumra.adapter_file import AdapterFileError
from speechbrain_sumra.audio.audio_file import AudioError
from speechbrain_sumra.bank import UnknownLocaleError
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.inference import Segment, Transcriber, Transcription

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
RATE = 16000


@pytest.fixture(scope="module")
def languages(tiny_whisper, tmp_path_factory):
    """Adapter files of aa and bb, in the folder "adapters"."""
    folder = tmp_path_factory.mktemp("languages")
    (folder / "adapters").mkdir()
    languages = Languages(folder, tiny_whisper)
    for seed, locale in enumerate(["aa", "bb"]):
        model = languages.model(seed, context="clip")
        languages.save(f"adapters/{locale}", model, locale=locale)
    return languages


@pytest.fixture(scope="module")
def transcriber(languages):
    return make(languages, languages.folder / "adapters")


def make(languages, adapters, **settings):
    return Transcriber.from_adapters(
        adapters, max_tokens=6, **languages.places, **settings
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five clips of noise, some of them long, and silence."""
    folder = tmp_path_factory.mktemp("clips")
    for i, seconds in enumerate([1, 40, 3, 65, 2]):
        noise = np.random.default_rng(i).normal(0, 0.1, seconds * RATE)
        soundfile.write(folder / f"{i}.wav", noise, RATE)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    return sorted(folder.iterdir())


LOCALES = ["aa", "bb", None, "aa", "bb", None]


def alone(transcriber, clips, locales):
    return [
        transcriber.transcribe_files([clip], [locale], progress=False)[0]
        for clip, locale in zip(clips, locales, strict=True)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_each_file_gets_the_text_that_it_gets_alone(transcriber, clips, batch_size):
    together = transcriber.transcribe_files(clips, LOCALES, False, batch_size)
    assert together == alone(transcriber, clips, LOCALES)
    assert [result.source for result in together] == [str(clip) for clip in clips]
    assert [result.locale for result in together] == LOCALES
    texts = [result.text for result in together]
    assert texts[-1] == "" and all(texts[:-1])
    assert len(set(texts)) == len(texts)


def test_segments_of_long_files_are_in_order(transcriber, clips):
    result = transcriber.transcribe_files(clips[3:4], "aa", progress=False)[0]
    starts = [segment.start for segment in result.segments]
    assert len(starts) > 2 and starts == sorted(starts)
    assert result.segments[-1].end == 65
    assert transcriber.transcribe_file(clips[3], "aa") == result.text


def test_batches_are_small_and_of_like_length(transcriber, clips, monkeypatch):
    transcribe, batches = transcriber.bank.transcribe, []

    def recording(waveforms, locales, **settings):
        batches.append([len(waveform) for waveform in waveforms])
        return transcribe(waveforms, locales, **settings)

    monkeypatch.setattr(transcriber.bank, "transcribe", recording)
    transcriber.transcribe_files(clips * 2, "aa", progress=False, batch_size=4)
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    assert len(batches) < 2 * inference.BATCHES_AHEAD
    ahead = sum(batches[: inference.BATCHES_AHEAD], [])
    assert ahead == sorted(ahead) and ahead[0] < ahead[-1]


def test_files_are_handed_on_when_they_are_done(transcriber, clips, monkeypatch):
    opened, read_segments = [], inference.read_segments

    def recording(path, max_seconds):
        opened.append(path)
        return read_segments(path, max_seconds)

    monkeypatch.setattr(inference, "read_segments", recording)
    monkeypatch.setattr(inference, "BATCHES_AHEAD", 1)
    stream = transcriber.stream_files(clips, "aa", progress=False, batch_size=2)
    assert next(stream).source == str(clips[0])
    assert len(opened) == 2
    assert [result.source for result in stream] == [str(clip) for clip in clips[1:]]


def test_a_bad_file_leaves_the_others_alone(transcriber, clips, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    paths = [clips[0], bad, tmp_path / "missing.wav", clips[2]]
    results = transcriber.transcribe_files(paths, "bb", progress=False)
    good = alone(transcriber, [clips[0], clips[2]], ["bb"] * 2)
    assert [results[0], results[3]] == good
    for result, path in zip(results[1:3], paths[1:3], strict=True):
        assert result.error.startswith(str(path)) and result.segments == []
        with pytest.raises(AudioError, match=path.name):
            transcriber.transcribe_file(path, "bb")


def test_a_file_that_is_too_long_is_an_error_of_its_own(transcriber, clips):
    long, short = transcriber.transcribe_files(
        [clips[3], clips[0]], "aa", progress=False, max_seconds=50
    )
    assert long.error == f"{clips[3]} is longer than 50 s."
    assert all(segment.end <= 50 for segment in long.segments)
    assert [short] == alone(transcriber, clips[:1], ["aa"])


def test_what_was_read_of_a_truncated_file_is_kept(transcriber, clips, tmp_path):
    cut = tmp_path / "cut.mp3"
    soundfile.write(cut, np.concatenate([soundfile.read(clips[3])[0]] * 2), RATE)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    [result] = transcriber.transcribe_files([cut], "aa", progress=False)
    assert "truncated" in result.error and result.text


def test_some_of_the_languages_may_be_taken(languages):
    adapters = languages.folder / "adapters"
    assert make(languages, adapters, locales=["bb"]).bank.locales == ["bb"]
    with pytest.raises(UnknownLocaleError, match="'xx'; there are .* of: aa, bb"):
        make(languages, adapters, locales=["aa", "xx"])
    again = languages.folder / "again" / "aa.safetensors"
    again.parent.mkdir()
    again.write_bytes((adapters / "aa.safetensors").read_bytes())
    places = [adapters, again]
    assert make(languages, places, locales=["bb"]).bank.locales == ["bb"]
    with pytest.raises(AdapterFileError, match="Two adapters of 'aa'"):
        make(languages, places, locales=["aa"])


def test_a_damaged_adapter_fails_its_files_alone(languages, clips):
    path = languages.make("cc", 3)
    places = [languages.folder / "adapters", path]
    transcriber = make(languages, places)
    path.write_bytes(b"damaged")
    results = transcriber.transcribe_files(clips[:2], ["cc", "aa"], False)
    assert results[0].error.startswith(str(clips[0])) and str(path) in results[0].error
    assert results[1].error is None and results[1].text
    with pytest.raises(AdapterFileError):
        transcriber.transcribe_file(clips[0], "cc")


def test_a_padded_batch_is_cut_to_its_lengths(transcriber, clips):
    wavs = [read_audio(str(clips[i])) for i in (0, 2, 4)]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True, padding_value=9.0)
    lengths = torch.tensor([len(wav) for wav in wavs]) / padded.shape[1]
    locales = ["aa", None, "bb"]
    expected = alone(transcriber, [clips[i] for i in (0, 2, 4)], locales)
    found = transcriber.transcribe_batch(padded, lengths, locales)
    assert found == [result.text for result in expected]
    assert transcriber(padded, lengths, locales) == found
    padded[1, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        transcriber.transcribe_batch(padded, lengths, locales)


def test_the_only_locale_is_the_default(languages, transcriber, clips):
    single = make(languages, languages.folder / "adapters" / "aa.safetensors")
    text = transcriber.transcribe_file(clips[0], "aa")
    assert single.transcribe_file(clips[0]) == text
    [result] = single.transcribe_files(clips[:1], progress=False)
    assert (result.locale, result.text) == ("aa", text)


@pytest.mark.parametrize("locale", [None, "xx"])
def test_an_unclear_locale_is_an_error_that_lists_the_known(transcriber, clips, locale):
    with pytest.raises(UnknownLocaleError, match="aa, bb"):
        transcriber.transcribe_file(clips[0], locale)
    with pytest.raises(UnknownLocaleError, match="aa, bb"):
        transcriber.transcribe_files(clips, locale)


def test_each_file_needs_a_locale(transcriber, clips):
    with pytest.raises(ValueError, match="each of 6 inputs, got 1"):
        transcriber.transcribe_files(clips, ["aa"])


def test_without_adapters_it_is_whisper(languages, transcriber, clips):
    plain = make(languages, [], whisper=str(languages.source))
    paths, unadapted = clips[:2], [None, None]
    expected = alone(transcriber, paths, unadapted)
    assert plain.transcribe_files(paths, unadapted, False) == expected
    with pytest.raises(UnknownLocaleError, match="no single one but none"):
        plain.transcribe_file(clips[0])


def test_the_yaml_file_gives_the_same(languages, transcriber, clips, tmp_path):
    overrides = {
        "adapters": str(languages.folder / "adapters"),
        "whisper": str(languages.source),
        "max_tokens": 6,
        **{name: str(place) for name, place in languages.places.items()},
    }
    settings = {"source": HPARAMS, "hparams_file": "inference.yaml"}
    from_file = Transcriber.from_hparams(
        **settings, overrides=overrides, savedir=tmp_path
    )
    results = from_file.transcribe_files(clips, LOCALES, progress=False)
    assert results == transcriber.transcribe_files(clips, LOCALES, progress=False)
    with pytest.raises(ValueError, match="bank is on 'cpu'"):
        Transcriber.from_hparams(
            **settings, overrides=overrides, run_opts={"device": "cpu:0"}
        )


def test_adapters_of_another_base_are_refused(languages, tiny_whisper, tmp_path):
    other = WhisperModel.from_pretrained(tiny_whisper)
    other.decoder.layer_norm.weight.data += 1
    folder = tmp_path / "other"
    other.save_pretrained(folder)
    for file in tiny_whisper.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).write_bytes(file.read_bytes())
    path = Languages(tmp_path, folder).make("zz", 4)
    with pytest.raises(AdapterFileError, match="zz.safetensors.* base"):
        make(languages, [languages.folder / "adapters", path])


def test_two_adapters_of_one_locale_are_refused(languages):
    path = languages.save("again", languages.model(5), locale="aa")
    with pytest.raises(AdapterFileError, match="Two adapters of 'aa'"):
        make(languages, [languages.folder / "adapters", path])
    same = languages.folder / "adapters" / "aa.safetensors"
    assert make(languages, [same, same]).bank.locales == ["aa"]


def test_a_file_that_names_no_base_model_needs_one(languages):
    path = languages.save("dd", languages.model(6), base_model=None)
    with pytest.raises(AdapterFileError, match="names no base model"):
        make(languages, path)
    source = str(languages.source)
    assert make(languages, path, whisper=source).bank.locales == ["dd"]
    with pytest.raises(ValueError, match="got neither"):
        make(languages, [])


def test_the_progress_bar_is_on_stderr(transcriber, clips, capfd):
    transcriber.transcribe_files(clips, "aa")
    captured = capfd.readouterr()
    assert captured.out == "" and "files=6/6" in captured.err


def test_no_files_no_results(transcriber):
    assert transcriber.transcribe_files([], "aa") == []


def test_text_is_that_of_all_segments_with_some():
    segments = [Segment(0, 1, "a"), Segment(1, 2, ""), Segment(2, 3, "b")]
    assert Transcription("x", None, segments).text == "a b"
