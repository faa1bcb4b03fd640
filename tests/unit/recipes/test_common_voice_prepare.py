"""Manifests from a Common Voice folder: what is kept, in what order, and why not."""

import csv
import json
import os
from pathlib import Path

import clip_durations
import clip_selection
import common_voice_prepare as prepare
import numpy as np
import pytest
import soundfile
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from speechbrain.dataio.dataset import DynamicItemDataset

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "corpora" / "cv"

OLD_COLUMNS = ["client_id", "path", "sentence", "up_votes", "locale"]
NEW_COLUMNS = [
    "client_id",
    "path",
    "sentence_id",
    "sentence",
    "sentence_domain",
    "locale",
]
RATE = 8000


def write_clip(clips, name, seconds=0.5):
    clips.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * RATE))
    soundfile.write(clips / name, noise, RATE)


def write_tsv(path, rows, columns=OLD_COLUMNS):
    """rows: (clip, sentence); every other column holds its own name."""
    lines = ["\t".join(columns)]
    for clip, sentence in rows:
        values = {"path": clip, "sentence": sentence}
        lines.append("\t".join(values.get(name, name) for name in columns))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_locale(folder, train=20, columns=OLD_COLUMNS, dev=2, test=2):
    """A locale folder of half-second clips: train_0.wav, ... ; returns it."""
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        names = [f"{split}_{i}.wav" for i in range(count)]
        for name in names:
            write_clip(folder / "clips", name)
        rows = [(name, f"frazo {name}") for name in names]
        write_tsv(folder / f"{split}.tsv", rows, columns)
    return folder


def seconds(value):
    """Hours, as the function takes them."""
    return value / 3600


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ids_of(path):
    return [row["ID"] for row in rows_of(path)]


def report_of(paths):
    return json.loads(Path(paths["report"]).read_text(encoding="utf-8"))


def files_in(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def corpus(tmp_path):
    make_locale(tmp_path / "cv" / "eo")
    return tmp_path / "cv"


@pytest.fixture
def save(tmp_path):
    return tmp_path / "manifests"


class TestManifests:
    def test_columns_and_values(self, corpus, save):
        paths = prepare_common_voice(corpus, save, "eo")
        rows = rows_of(paths["dev"])
        assert list(rows[0]) == ["ID", "duration", "wav", "wrd", "locale"]
        assert {row["ID"] for row in rows} == {"dev_0", "dev_1"}
        by_id = {row["ID"]: row for row in rows}
        assert by_id["dev_0"] == {
            "ID": "dev_0",
            "duration": "0.500",
            "wav": "$data_root/eo/clips/dev_0.wav",
            "wrd": "frazo dev_0.wav",
            "locale": "eo",
        }

    def test_loads_in_speechbrain(self, corpus, save):
        write_tsv(corpus / "eo" / "dev.tsv", [("dev_0.wav", 'Kostas $5, "ĉu"?')])
        paths = prepare_common_voice(corpus, save, "eo")
        data = DynamicItemDataset.from_csv(
            paths["dev"],
            replacements={"data_root": str(corpus)},
            output_keys=["id", "wav", "duration", "wrd"],
        )
        (item,) = data
        assert item["id"] == "dev_0"
        assert item["duration"] == pytest.approx(soundfile.info(item["wav"]).duration)
        assert item["wrd"] == "Kostas S5 ĉu ?"

    @pytest.mark.parametrize("columns", [OLD_COLUMNS, NEW_COLUMNS, NEW_COLUMNS[::-1]])
    def test_columns_are_found_by_header(self, tmp_path, columns):
        folder = make_locale(tmp_path / "cv" / "eo", 3, columns)
        text = (folder / "train.tsv").read_text(encoding="utf-8")
        text = text.replace("\n", "\r\n")
        (folder / "train.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
        paths = prepare_common_voice(tmp_path / "cv", tmp_path / "out", "eo")
        rows = rows_of(paths["train"])
        expected = {f"frazo train_{i}.wav" for i in range(3)}
        assert {row["wrd"] for row in rows} == expected

    def test_quotes_in_sentences_do_not_swallow_rows(self, corpus, save):
        rows = [("dev_0.wav", '"Nefermita'), ("dev_1.wav", 'fin"o')]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        paths = prepare_common_voice(corpus, save, "eo")
        words = {row["ID"]: row["wrd"] for row in rows_of(paths["dev"])}
        assert words == {"dev_0": "Nefermita", "dev_1": "fin o"}

    def test_sentence_beyond_the_csv_limit(self, corpus, save):
        rows = [("dev_0.wav", "a" * 200_000), ("dev_1.wav", "b")]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        paths = prepare_common_voice(corpus, save, "eo")
        assert ids_of(paths["dev"]) == ["dev_1"]

    def test_path_without_extension_is_mp3(self, corpus, save):
        soundfile.write(
            corpus / "eo" / "clips" / "old.mp3", np.zeros(16000), 16000, format="MP3"
        )
        write_tsv(corpus / "eo" / "dev.tsv", [("old", "Malnova")])
        paths = prepare_common_voice(corpus, save, "eo")
        (row,) = rows_of(paths["dev"])
        assert (row["ID"], row["wav"]) == ("old", "$data_root/eo/clips/old.mp3")

    def test_release_folder(self, tmp_path, save):
        release = tmp_path / "cv" / "cv-corpus-21.0-2025-03-14"
        make_locale(release / "eo")
        paths = prepare_common_voice(tmp_path / "cv", save, "eo")
        for row in rows_of(paths["train"]):
            wav = row["wav"].replace("$data_root", str(tmp_path / "cv"))
            assert soundfile.info(wav).duration == 0.5
        # The release itself is a data_folder as well, and gives the same clips.
        direct = prepare_common_voice(release, tmp_path / "direct", "eo")
        assert ids_of(direct["train"]) == ids_of(paths["train"])

    @pytest.mark.parametrize(
        "sentence, expected",
        [
            ("  Ĉu   vi\tvenos? ", "Ĉu vi venos?"),
            ("L'homme, l’eau `a` “b” „c« »d", "L homme l eau a b c d"),
            ("$100", "S100"),
            ("'\"’`,", ""),
        ],
    )
    def test_clean_text(self, sentence, expected):
        assert clip_selection.clean_text(sentence) == expected


class TestOrder:
    def test_fewer_hours_are_a_prefix_of_more(self, corpus, tmp_path):
        ids = {}
        for wanted in (2, 5, 8, 3600):
            paths = prepare_common_voice(
                corpus, tmp_path / str(wanted), "eo", train_hours=seconds(wanted)
            )
            ids[wanted] = ids_of(paths["train"])
        assert [len(ids[w]) for w in ids] == [4, 10, 16, 20]
        for wanted in ids:
            assert ids[wanted] == ids[3600][: len(ids[wanted])]

    def test_the_hours_are_never_exceeded(self, corpus, save):
        paths = prepare_common_voice(corpus, save, "eo", train_hours=seconds(1.9))
        assert len(ids_of(paths["train"])) == 3

    def test_independent_of_the_order_of_rows(self, corpus, tmp_path):
        first = prepare_common_voice(corpus, tmp_path / "a", "eo")
        tsv = corpus / "eo" / "train.tsv"
        header, *rows = tsv.read_text(encoding="utf-8").splitlines()
        tsv.write_text("\n".join([header, *rows[::-1]]) + "\n", encoding="utf-8")
        second = prepare_common_voice(corpus, tmp_path / "b", "eo")
        assert report_of(first)["data_hash"] == report_of(second)["data_hash"]
        assert ids_of(first["train"]) != [f"train_{i}" for i in range(20)]

    def test_the_order_is_the_same_for_ever(self, corpus, save):
        # A changed order would silently change everybody's 10 h. These are the
        # first five of `sha256sum` over the file names, sorted.
        paths = prepare_common_voice(corpus, save, "eo", train_hours=seconds(2.5))
        expected = "train_13 train_10 train_16 train_14 train_5"
        assert ids_of(paths["train"]) == expected.split()

    def test_only_as_much_as_needed_is_decoded(self, corpus, save, monkeypatch):
        monkeypatch.setattr(clip_selection, "BLOCK", 4)
        prepare_common_voice(corpus, save, "eo", train_hours=seconds(2.5))
        clips = [row["clip"] for row in rows_of(save / "durations.csv")]
        assert sum(clip.startswith("train") for clip in clips) == 8  # two blocks

    def test_blocks_do_not_show(self, corpus, tmp_path, monkeypatch):
        whole = prepare_common_voice(corpus, tmp_path / "a", "eo")
        monkeypatch.setattr(clip_selection, "BLOCK", 3)
        parts = prepare_common_voice(corpus, tmp_path / "b", "eo", num_workers=1)
        assert report_of(whole)["data_hash"] == report_of(parts)["data_hash"]


class TestDrops:
    def test_every_reason_is_counted(self, corpus, save):
        clips = corpus / "eo" / "clips"
        (clips / "broken.mp3").write_bytes(b"not audio at all" * 100)
        (clips / "empty.mp3").write_bytes(b"")
        write_clip(clips, "silent.wav", 0)
        write_clip(clips, "long.wav", 1.5)
        (clips / "folder.mp3").mkdir()
        rows = [
            ("gone.mp3", "a"),
            ("folder.mp3", "a"),
            ("broken.mp3", "a"),
            ("empty.mp3", "a"),
            ("silent.wav", "a"),
            ("long.wav", "a"),
            ("train_0.wav", ' ",’ '),
            ("train_1.wav", "a" * 21),
            ("train_2.wav", "bona"),
            ("train_2.wav", "bona"),
            ("train_3.wav", "nu\0lo"),
            ("train_4.wav", "tro\tda kolumnoj"),
            ("", "sen vojo"),
        ]
        write_tsv(corpus / "eo" / "train.tsv", rows)
        paths = prepare_common_voice(
            corpus, save, "eo", max_duration=1.0, max_characters=20
        )
        split = report_of(paths)["splits"]["train"]
        dropped = {r: d["clips"] for r, d in split["dropped"].items() if d["count"]}
        assert {reason: sorted(clips) for reason, clips in dropped.items()} == {
            "missing_file": ["folder.mp3", "gone.mp3"],
            "unreadable_audio": ["broken.mp3"],
            "zero_length": ["empty.mp3", "silent.wav"],
            "too_long": ["long.wav"],
            "empty_text": ["train_0.wav"],
            "text_too_long": ["train_1.wav"],
            "duplicate": ["train_2.wav"],
            "malformed_row": ["row 12", "row 13", "row 14"],
        }
        assert list(split["dropped"]) == clip_selection.REASONS
        assert split["rows_in_tsv"] == len(rows)
        assert split["clips_examined"] == len(rows)
        assert ids_of(paths["train"]) == ["train_2"]

    def test_broken_utf8_and_stray_line_ends(self, corpus, save):
        tsv = corpus / "eo" / "dev.tsv"
        write_tsv(tsv, [("dev_0.wav", "ĉu"), ("dev_1.wav", "du\rpartoj")])
        tsv.write_bytes(tsv.read_bytes().replace("ĉ".encode(), b"\xff") + b"\n")
        write_clip(corpus / "eo" / "clips", "dev_2.wav")
        with open(tsv, "a", encoding="utf-8") as file:
            file.write("client_id\tdev_2.wav\ttri\tup_votes\tlocale\n")
        paths = prepare_common_voice(corpus, save, "eo")
        assert ids_of(paths["dev"]) == ["dev_2"]
        assert report_of(paths)["splits"]["dev"]["dropped"]["malformed_row"][
            "clips"
        ] == ["row 2", "row 3", "row 4"]

    def test_audio_that_breaks_off_behind_a_good_start(self, corpus, save):
        # The header alone would pass; training would stop at this clip.
        clip = corpus / "eo" / "clips" / "dev_0.mp3"
        soundfile.write(clip, np.zeros(5 * 16000), 16000, format="MP3")
        start = clip.read_bytes()[:2000]
        noise = np.random.default_rng(0).integers(0, 256, 20000, dtype=np.uint8)
        clip.write_bytes(start + noise.tobytes())
        soundfile.info(clip)
        write_tsv(corpus / "eo" / "dev.tsv", [("dev_0.mp3", "a"), ("dev_1.wav", "b")])
        paths = prepare_common_voice(corpus, save, "eo")
        dropped = report_of(paths)["splits"]["dev"]["dropped"]
        assert dropped["unreadable_audio"]["clips"] == ["dev_0.mp3"]

    def test_limits_are_inclusive(self, corpus, save):
        rows = [("dev_0.wav", "a" * 30), ("dev_1.wav", "a" * 31)]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        paths = prepare_common_voice(
            corpus, save, "eo", max_duration=0.5, max_characters=30
        )
        assert ids_of(paths["dev"]) == ["dev_0"]


class TestReport:
    def test_counts_add_up_and_hours_are_those_of_the_manifest(self, corpus, save):
        paths = prepare_common_voice(corpus, save, "eo", train_hours=seconds(3))
        report = report_of(paths)
        assert report["locale"] == "eo"
        for name, split in report["splits"].items():
            drops = sum(drop["count"] for drop in split["dropped"].values())
            assert split["clips_examined"] == split["clips_kept"] + drops
            rows = rows_of(paths[name])
            assert split["clips_kept"] == len(rows)
            total = sum(float(row["duration"]) for row in rows)
            assert split["hours_kept"] == pytest.approx(total / 3600, abs=1e-6)

    def test_less_speech_than_asked_for(self, corpus, save, caplog):
        paths = prepare_common_voice(corpus, save, "eo", train_hours=seconds(3))
        splits = report_of(paths)["splits"]
        assert not splits["train"]["less_than_asked"]
        assert splits["dev"]["less_than_asked"]
        warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) == 2 and "eo dev: only 0.00 h" in warnings[0]

    def test_exactly_the_speech_asked_for(self, corpus, save, caplog):
        paths = prepare_common_voice(
            corpus, save, "eo", seconds(10), seconds(1), seconds(1)
        )
        splits = report_of(paths)["splits"]
        assert [s["clips_kept"] for s in splits.values()] == [20, 2, 2]
        assert not any(s["less_than_asked"] for s in splits.values())
        assert not [r for r in caplog.records if r.levelname == "WARNING"]

    def test_no_client_and_no_place_is_named(self, corpus, save):
        paths = prepare_common_voice(corpus, save, "eo")
        for path in paths.values():
            text = Path(path).read_text(encoding="utf-8")
            assert "client_id" not in text and str(corpus) not in text


class TestSecondRun:
    def test_returns_at_once(self, corpus, save, caplog):
        paths = prepare_common_voice(corpus, save, "eo")
        before = {p: os.stat(p).st_mtime_ns for p in paths.values()}
        for clip in (corpus / "eo" / "clips").iterdir():
            clip.unlink()  # a run that looked at the audio would fail
        caplog.set_level("INFO")
        assert prepare_common_voice(corpus, save, "eo") == paths
        assert {p: os.stat(p).st_mtime_ns for p in paths.values()} == before
        assert "already holds the manifests" in caplog.text

    @pytest.mark.parametrize("change", ["settings", "tsv", "manifest", "report"])
    def test_is_made_anew_after_a_change(self, corpus, save, change):
        paths = prepare_common_voice(corpus, save, "eo")
        first = report_of(paths)["data_hash"]
        settings = {}
        if change == "settings":
            settings["train_hours"] = seconds(1)
        elif change == "tsv":
            write_tsv(corpus / "eo" / "train.tsv", [("train_3.wav", "nova")])
        else:
            Path(paths["train" if change == "manifest" else "report"]).write_text("[]")
        prepare_common_voice(corpus, save, "eo", **settings)
        assert (report_of(paths)["data_hash"] == first) == (
            change in ("manifest", "report")
        )
        assert ids_of(paths["train"])

    def test_uses_the_durations_it_kept(self, corpus, save):
        clips = corpus / "eo" / "clips"
        (clips / "dev_1.wav").write_bytes(b"garbage" * 100)
        first = report_of(prepare_common_voice(corpus, save, "eo"))
        for clip in clips.iterdir():  # same size and time, but no audio any more
            stat = clip.stat()
            clip.write_bytes(b"\0" * stat.st_size)
            os.utime(clip, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (save / "manifest_report.json").unlink()
        second = report_of(prepare_common_voice(corpus, save, "eo"))
        assert second == first
        assert second["splits"]["dev"]["dropped"]["unreadable_audio"]["count"] == 1

    def test_measures_a_changed_clip_again(self, corpus, save):
        prepare_common_voice(corpus, save, "eo")
        write_clip(corpus / "eo" / "clips", "dev_0.wav", 0.75)
        (save / "manifest_report.json").unlink()
        paths = prepare_common_voice(corpus, save, "eo")
        durations = {row["ID"]: row["duration"] for row in rows_of(paths["dev"])}
        assert durations == {"dev_0": "0.750", "dev_1": "0.500"}

    def test_forgets_what_may_be_mended(self, corpus, save, monkeypatch):
        # A clip without read permission keeps its stamp when that is given.
        decode = clip_durations._decoded_seconds

        def refuse(path):
            if path.name == "dev_0.wav":
                raise soundfile.LibsndfileError(clip_durations.SYSTEM_ERROR)
            return decode(path)

        monkeypatch.setattr(clip_durations, "_decoded_seconds", refuse)
        paths = prepare_common_voice(corpus, save, "eo")
        assert ids_of(paths["dev"]) == ["dev_1"]
        monkeypatch.undo()
        (save / "manifest_report.json").unlink()
        assert len(ids_of(prepare_common_voice(corpus, save, "eo")["dev"])) == 2

    def test_one_durations_file_for_two_locales(self, corpus, tmp_path):
        make_locale(corpus / "ia", train=1, dev=1, test=1)
        for clip in (corpus / "ia" / "clips").iterdir():
            clip.rename(clip.with_name(f"ia_{clip.name}"))
        for split in ("train", "dev", "test"):
            rows = [(f"ia_{split}_0.wav", "a")]
            write_tsv(corpus / "ia" / f"{split}.tsv", rows)
        known = tmp_path / "known" / "durations.csv"
        for locale in ("eo", "ia"):
            prepare_common_voice(
                corpus, tmp_path / locale, locale, durations_file=known
            )
        clips = {row["clip"] for row in rows_of(known)}
        assert {"train_0.wav", "ia_train_0.wav"} <= clips and len(clips) == 27

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"nonsense",
            b"clip,size,mtime_ns,duration,problem\ntrain_0.wav,1",
            b"clip,size,mtime_ns,duration,problem\ntrain_0.wav,1,2,nan,\n",
            b"clip,size,mtime_ns,duration,problem\ntrain_0.wav,1,2,0.0,tired\n",
            b"\xff\xfe\x00",
        ],
    )
    def test_damaged_durations_are_rebuilt(self, corpus, save, caplog, damage):
        save.mkdir()
        (save / "durations.csv").write_bytes(damage)
        prepare_common_voice(corpus, save, "eo")
        assert "durations.csv is damaged" in caplog.text
        assert len(rows_of(save / "durations.csv")) == 24


class TestWhole:
    def test_no_temporary_file_is_left(self, corpus, save):
        prepare_common_voice(corpus, save, "eo")
        assert set(files_in(save)) == {
            "train.csv",
            "dev.csv",
            "test.csv",
            "durations.csv",
            "manifest_report.json",
        }

    def test_a_failure_leaves_the_old_manifests(self, corpus, save):
        prepare_common_voice(corpus, save, "eo")
        before = files_in(save)
        write_tsv(corpus / "eo" / "test.tsv", [("gone.wav", "a")])
        with pytest.raises(CommonVoiceError, match="1 missing_file"):
            prepare_common_voice(corpus, save, "eo", train_hours=seconds(1))
        assert files_in(save) == before

    def test_a_full_disk_leaves_the_old_manifests(self, corpus, save, monkeypatch):
        prepare_common_voice(corpus, save, "eo")
        before = files_in(save)
        write = Path.write_bytes

        def full(path, content):
            if "test.csv" in path.name:
                raise OSError(28, "No space left on device")
            return write(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            prepare_common_voice(corpus, save, "eo", train_hours=seconds(1))
        assert files_in(save) == before

    def test_a_stop_between_two_renames_is_not_taken_for_finished(self, corpus, save):
        prepare_common_voice(corpus, save, "eo")
        (save / "dev.csv").unlink()
        (save / "dev.csv").mkdir()  # cannot be replaced by a file
        with pytest.raises(OSError):
            prepare_common_voice(corpus, save, "eo", train_hours=seconds(1))
        assert not list(save.glob(".*"))  # none beside its place
        with pytest.raises(CommonVoiceError, match="manifest_report.json"):
            prepare_common_voice(corpus, save, "eo", skip_prep=True)

    def test_an_interruption_keeps_the_durations(self, corpus, save, monkeypatch):
        def interrupt(tsv, *_, **__):
            if tsv.stem == "test":
                raise KeyboardInterrupt
            return select(tsv, *_, **__)

        select = prepare.select_clips
        monkeypatch.setattr(prepare, "select_clips", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_common_voice(corpus, save, "eo")
        assert set(files_in(save)) == {"durations.csv"}
        assert len(rows_of(save / "durations.csv")) == 22

    def test_skip_prep(self, corpus, save):
        with pytest.raises(CommonVoiceError, match="found no train.csv, dev.csv"):
            prepare_common_voice(corpus, save, "eo", skip_prep=True)
        paths = prepare_common_voice(corpus, save, "eo")
        skipped = prepare_common_voice("nowhere", save, "eo", skip_prep=True)
        assert skipped == paths


class TestErrors:
    def test_no_data_folder(self, tmp_path, save):
        with pytest.raises(CommonVoiceError, match="nowhere is no folder"):
            prepare_common_voice(tmp_path / "nowhere", save, "eo")

    def test_no_such_locale(self, corpus, save):
        make_locale(corpus / "cv-corpus-21.0" / "ia", 1)
        for locale in ("mhr", "../eo", "", "."):
            with pytest.raises(CommonVoiceError, match="found locales: eo, ia;"):
                prepare_common_voice(corpus, save, locale)

    def test_locale_in_several_releases(self, tmp_path, save):
        for release in ("cv-corpus-20.0", "cv-corpus-21.0"):
            make_locale(tmp_path / release / "eo", 1)
        with pytest.raises(CommonVoiceError, match="cv-corpus-20.0, cv-corpus-21.0"):
            prepare_common_voice(tmp_path, save, "eo")

    @pytest.mark.parametrize("split", ["train", "dev", "test"])
    def test_no_tsv(self, corpus, save, split):
        (corpus / "eo" / f"{split}.tsv").unlink()
        with pytest.raises(CommonVoiceError, match=rf"found no {split}\.tsv"):
            prepare_common_voice(corpus, save, "eo")

    def test_no_clips_folder(self, corpus, save):
        (corpus / "eo" / "clips").rename(corpus / "eo" / "audio")
        with pytest.raises(CommonVoiceError, match="found no clips"):
            prepare_common_voice(corpus, save, "eo")

    @pytest.mark.parametrize("column", ["path", "sentence"])
    def test_no_such_column(self, corpus, save, column):
        columns = [c for c in NEW_COLUMNS if c != column]
        write_tsv(corpus / "eo" / "dev.tsv", [("dev_0.wav", "a")], columns)
        with pytest.raises(CommonVoiceError, match=f"found {', '.join(columns)}"):
            prepare_common_voice(corpus, save, "eo")

    def test_empty_tsv(self, corpus, save):
        (corpus / "eo" / "dev.tsv").write_bytes(b"")
        with pytest.raises(CommonVoiceError, match="found none"):
            prepare_common_voice(corpus, save, "eo")

    def test_nothing_left(self, corpus, save):
        rows = [("gone.wav", "a"), ("dev_0.wav", ","), ("dev_1.wav", "")]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        with pytest.raises(CommonVoiceError, match="1 missing_file, 2 empty_text"):
            prepare_common_voice(corpus, save, "eo")

    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "../clips/dev_0.wav", "a/../../x.mp3", "C:\\a.mp3"]
    )
    def test_path_out_of_clips(self, corpus, save, path):
        rows = [("dev_0.wav", "a"), (path, "b")]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        with pytest.raises(CommonVoiceError, match=r"dev\.tsv, row 3: expected"):
            prepare_common_voice(corpus, save, "eo")

    def test_link_out_of_clips(self, corpus, save, tmp_path):
        write_clip(tmp_path, "elsewhere.wav")
        (corpus / "eo" / "clips" / "link.wav").symlink_to(tmp_path / "elsewhere.wav")
        write_tsv(corpus / "eo" / "dev.tsv", [("link.wav", "a")])
        with pytest.raises(CommonVoiceError, match=r"dev\.tsv, row 2: expected"):
            prepare_common_voice(corpus, save, "eo")

    def test_clips_may_be_a_link_itself(self, corpus, save, tmp_path):
        (corpus / "eo" / "clips").rename(tmp_path / "disk")
        (corpus / "eo" / "clips").symlink_to(tmp_path / "disk")
        paths = prepare_common_voice(corpus, save, "eo")
        assert len(ids_of(paths["train"])) == 20

    @pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["train_hours", "dev_hours", "test_hours"])
    def test_hours(self, corpus, save, name, hours):
        with pytest.raises(CommonVoiceError, match=f"as {name}, found {hours}"):
            prepare_common_voice(corpus, save, "eo", **{name: hours})
        assert not save.exists()


class TestCommand:
    def test_does_what_the_function_does(self, corpus, save, tmp_path):
        paths = prepare_common_voice(corpus, save, "eo", train_hours=seconds(3))
        other = tmp_path / "command"
        options = f"--data_folder {corpus} --save_folder {other} --locale eo".split()
        prepare.main([*options, "--train_hours", str(seconds(3))])
        assert files_in(other)["train.csv"] == files_in(save)["train.csv"]
        assert json.loads(files_in(other)["manifest_report.json"]) == report_of(paths)

    def test_ends_with_one_clear_message(self, corpus, save):
        options = f"--data_folder {corpus} --save_folder {save} --locale xx".split()
        with pytest.raises(SystemExit, match="^error: expected locale 'xx'"):
            prepare.main(options)


@pytest.mark.skipif(not REAL.is_dir(), reason="real speech absent: shared/corpora/cv")
def test_real_esperanto(tmp_path):
    paths = prepare_common_voice(REAL, tmp_path / "eo", "eo")
    report = report_of(paths)
    for split in ("train", "dev", "test"):
        data = DynamicItemDataset.from_csv(
            paths[split],
            replacements={"data_root": str(REAL)},
            output_keys=["wav", "duration", "wrd"],
        )
        assert len(data) == report["splits"][split]["clips_kept"] > 0
        for item in list(data)[:5]:
            samples, rate = soundfile.read(item["wav"])
            assert item["duration"] == pytest.approx(len(samples) / rate, abs=1e-3)
            assert item["duration"] <= 10 and item["wrd"]
    rows = sum(split["rows_in_tsv"] for split in report["splits"].values())
    assert rows == 100
    # Every clip is accounted for, as all of the speech is used.
    assert rows == sum(split["clips_examined"] for split in report["splits"].values())
