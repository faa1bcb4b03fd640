"""The synthetic corpus: its sentences, its tables and its speech."""

import csv
import json
import random
import re
import sys
from inspect import signature
from itertools import pairwise

import esperanto_sentences as grammar
import make_synthetic_corpus as synthetic
import numpy as np
import pytest
import soundfile
from espeak import EspeakNG

SIZES = {"num_train": 18, "num_dev": 3, "num_test": 6}
SPLITS = ("train", "dev", "test")


def need_espeak():
    pytest.importorskip("espeakng_loader")


def read_tsv(path):
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return list(reader)


def words(sentence):
    return re.findall(r"\w+", sentence.lower())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    need_espeak()
    folder = tmp_path_factory.mktemp("synthetic")
    return synthetic.make_synthetic_corpus(folder, **SIZES)


@pytest.fixture(scope="module")
def sentences():
    return grammar.esperanto_sentences(5000, random.Random(7))


# Sentences


def test_many_distinct_sentences(sentences):
    assert len({" ".join(words(sentence)) for sentence in sentences}) == 5000


def test_sentences_look_like_common_voice(sentences):
    letters = "abcĉdefgĝhĥijĵklmnoprsŝtuŭvz"
    for sentence in sentences:
        assert sentence[0].isupper()
        assert sentence[-1] in ".?"
        assert set(sentence.lower()) <= set(letters + " ,.?"), sentence
        assert grammar.MIN_WORDS <= len(words(sentence)) <= grammar.MAX_WORDS
    assert set("ĉĝĥĵŝŭ") <= set("".join(sentences).lower())


def test_adjectives_agree_with_their_nouns(sentences):
    nouns = {noun for scene in grammar.SCENES for noun in scene.nouns}
    inflected = re.compile(r"(\w+[ao])(j?)(n?)$")
    pairs = 0
    for sentence in sentences:
        tokens = [inflected.match(word) for word in words(sentence)]
        for first, second in pairwise(tokens):
            if not first or not second or second[1] not in nouns:
                continue
            if first[1].endswith("a") and first[1] != "la":
                assert first.groups()[1:] == second.groups()[1:], sentence
                pairs += 1
    assert pairs > 1000


def test_numbers_take_the_plural(sentences):
    number = r"\b(?:du|tri|kvar|kvin|ses|sep|ok|naŭ|dek|dudek)"
    phrase = re.compile(number + r" (?!du|jarojn|tagoj)(?:\w+ )?\w*[ao]j?n?\b")
    found = [m for s in sentences for m in phrase.findall(s.lower())]
    assert len(found) > 100
    for match in found:
        assert re.search(r"jn?$", match.split()[1]), match


def test_transitive_verbs_have_an_accusative_object(sentences):
    stems = "manĝ|aĉet|trov|perd|leg|skrib|vid|salut|renkont|farb|vizit"
    verb = re.compile(rf"\b(?:{stems})(?:as|is|os|us|u|i)\b(.*)")
    found = [m for s in sentences if (m := verb.search(s.lower()))]
    assert len(found) > 500
    for match in found:
        assert re.search(r"\w+oj?n\b", match[1]), match.string


def test_prepositions_take_the_nominative(sentences):
    static = re.compile(r"\b(?:al|apud|ĉe|per|antaŭ|sub|ol) (?:\w+ )?(\w+)")
    found = [m for s in sentences for m in static.finditer(s.lower())]
    assert len(found) > 500
    for match in found:
        assert not re.search(r"[ao]j?n$", match[1]), match.string


def test_more_sentences_than_the_grammar_has_is_an_error(monkeypatch):
    monkeypatch.setattr(grammar, "TEMPLATES", {"unu du tri kvar kvin.": 1})
    assert grammar.esperanto_sentences(1, random.Random(0)) == ["Unu du tri kvar kvin."]
    with pytest.raises(ValueError, match="gave only 1"):
        grammar.esperanto_sentences(2, random.Random(0))


# The plan: who says what


def test_default_plan():
    defaults = signature(synthetic.make_synthetic_corpus).parameters
    counts = {split: defaults[f"num_{split}"].default for split in SPLITS}
    assert counts == {"train": 200, "dev": 20, "test": 40}
    clips = synthetic.plan_clips(counts, seed=1986)
    said = {s: [c.sentence for c in clips if c.split == s] for s in SPLITS}
    assert {s: len(said[s]) for s in SPLITS} == counts
    assert len({clip.sentence for clip in clips}) == len(clips) == 260
    assert len({clip.name for clip in clips}) == len(clips)
    heard = {word for sentence in said["train"] for word in words(sentence)}
    tested = [word for sentence in said["test"] for word in words(sentence)]
    assert np.mean([word in heard for word in tested]) > 0.8


def test_speakers_are_disjoint_and_all_used():
    counts = {"train": 20, "dev": 5, "test": 5}
    clips = synthetic.plan_clips(counts, seed=1)
    used = {s: {c.variant for c in clips if c.split == s} for s in SPLITS}
    assert used == {s: set(synthetic.SPEAKERS[s]) for s in SPLITS}
    assert sum(map(len, used.values())) == len(set().union(*used.values()))


def test_plan_follows_the_seed_and_keeps_the_test_set():
    counts = {"train": 10, "dev": 2, "test": 4}
    plan = synthetic.plan_clips(counts, seed=5)
    assert synthetic.plan_clips(counts, seed=5) == plan
    assert synthetic.plan_clips(counts, seed=6) != plan
    larger = synthetic.plan_clips({**counts, "train": 50}, seed=5)
    assert [clip.sentence for clip in larger[:16]] == [clip.sentence for clip in plan]
    assert [clip.name for clip in larger[:6]] == [clip.name for clip in plan[:6]]


# The corpus on disk


def test_tables(corpus):
    tables = {s: read_tsv(corpus / f"{s}.tsv") for s in SPLITS}
    assert {f"num_{s}": len(rows) for s, rows in tables.items()} == SIZES
    validated = read_tsv(corpus / "validated.tsv")
    rows = [row for s in SPLITS for row in tables[s]]
    assert sorted(r["path"] for r in validated) == sorted(r["path"] for r in rows)
    assert len({row["sentence"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == synthetic.COLUMNS
        assert row["client_id"].startswith("synthetic-")
        assert row["locale"] == "eo"
    ids = {s: {row["client_id"] for row in tables[s]} for s in SPLITS}
    assert not ids["train"] & ids["dev"]
    assert not ids["train"] & ids["test"]
    assert not ids["dev"] & ids["test"]


def test_clips(corpus):
    rows = read_tsv(corpus / "validated.tsv")
    names = {path.name for path in (corpus / "clips").iterdir()}
    assert names == {row["path"] for row in rows}
    for row in rows:
        path = corpus / "clips" / row["path"]
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.subtype == "PCM_16"
        assert 0.5 < info.duration <= 10
        samples, _ = soundfile.read(path)
        assert np.sqrt(np.mean(samples**2)) > 0.01
        assert 0.25 < np.abs(samples).max() < 1


def test_voices_differ():
    need_espeak()
    heard = {}
    with EspeakNG() as espeak:
        for speakers in synthetic.SPEAKERS.values():
            for variant in speakers:
                speech = espeak.say("La suno brilas.", variant, 150, 50)
                level = np.log(np.abs(np.fft.rfft(speech, 32768)) + 1e-6)
                bands = level[:16384].reshape(64, -1).mean(axis=1)
                heard[variant] = bands - bands.mean()
    names = list(heard)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            distance = np.sqrt(np.mean((heard[first] - heard[second]) ** 2))
            assert distance > 0.1, (first, second)


def test_same_seed_gives_the_same_tables(corpus, tmp_path):
    again = synthetic.make_synthetic_corpus(tmp_path, **SIZES)
    for table in ("train", "dev", "test", "validated"):
        name = f"{table}.tsv"
        assert (again / name).read_bytes() == (corpus / name).read_bytes()


def test_finished_corpus_is_reused_without_espeak(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    before = (corpus / "train.tsv").stat().st_mtime_ns
    assert synthetic.make_synthetic_corpus(corpus.parent, **SIZES) == corpus
    assert (corpus / "train.tsv").stat().st_mtime_ns == before


def test_other_settings_replace_the_corpus(tmp_path):
    need_espeak()
    synthetic.make_synthetic_corpus(tmp_path, 1, 1, 1, seed=1)
    corpus = synthetic.make_synthetic_corpus(tmp_path, 2, 1, 1, seed=2)
    assert len(read_tsv(corpus / "train.tsv")) == 2
    assert len(list((corpus / "clips").iterdir())) == 4


def test_unfinished_corpus_is_redone(tmp_path, monkeypatch):
    need_espeak()

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_write_settings", fail)
        with pytest.raises(KeyboardInterrupt):
            synthetic.make_synthetic_corpus(tmp_path, 2, 1, 1)
    assert not (tmp_path / "eo").exists()
    corpus = synthetic.make_synthetic_corpus(tmp_path, 1, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["eo"]
    assert len(list((corpus / "clips").iterdir())) == 3


@pytest.mark.parametrize("mark", [None, "not json", "[]", "{}"])
def test_foreign_folder_is_refused(tmp_path, mark):
    foreign = tmp_path / "eo"
    foreign.mkdir()
    (foreign / "train.tsv").write_text("somebody's\n")
    if mark is not None:
        (foreign / synthetic.SETTINGS_FILE).write_text(mark)
    with pytest.raises(FileExistsError, match="no synthetic corpus"):
        synthetic.make_synthetic_corpus(tmp_path, **SIZES)
    assert (foreign / "train.tsv").read_text() == "somebody's\n"


def test_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dev needs at least 1"):
        synthetic.make_synthetic_corpus(tmp_path, num_dev=0)


def test_missing_espeak_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"speechbrain-sumra\[offline\]"):
        synthetic.make_synthetic_corpus(tmp_path, **SIZES)
    assert list(tmp_path.iterdir()) == []


def test_unknown_voice_is_an_error():
    need_espeak()
    with EspeakNG() as espeak, pytest.raises(ValueError, match="nobody"):
        espeak.say("Saluton!", "nobody", 150, 50)


def test_command(tmp_path, capsys):
    need_espeak()
    sizes = ["--num_train", "1", "--num_dev", "1", "--num_test", "1", "--seed", "3"]
    synthetic.main(["--data_folder", str(tmp_path), *sizes])
    assert str(tmp_path / "eo") in capsys.readouterr().out
    mark = json.loads((tmp_path / "eo" / synthetic.SETTINGS_FILE).read_text())
    assert mark["settings"]["seed"] == 3


def test_help_says_that_the_speech_is_synthetic(capsys):
    with pytest.raises(SystemExit):
        synthetic.main(["--help"])
    text = capsys.readouterr().out
    assert "SYNTHETIC" in text
    assert "commonvoice.mozilla.org" in text
