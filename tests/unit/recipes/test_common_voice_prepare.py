"""Manifests from a Common Voice folder, their report, and runs that stop."""

import json
import os
from pathlib import Path

import common_voice_prepare as prepare
import pytest
import soundfile
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from corpus import files_in, ids_of, report_of, rows_of, seconds, write_tsv
from speechbrain.dataio.dataset import DynamicItemDataset

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "corpora" / "cv"


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
        assert not list(save.glob(".*.*"))  # none beside its place
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
    def test_nothing_left(self, corpus, save):
        rows = [("gone.wav", "a"), ("dev_0.wav", ","), ("dev_1.wav", "")]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        with pytest.raises(CommonVoiceError, match="1 missing_file, 2 empty_text"):
            prepare_common_voice(corpus, save, "eo")

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
