"""Durations of clips: measured by decoding, kept, and mended."""

import os

import clip_durations
import numpy as np
import pytest
import soundfile
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from corpus import ids_of, make_locale, report_of, rows_of, write_clip, write_tsv

from speechbrain_sumra.audio.audio_file import AudioError


class TestDrops:
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


class TestSecondRun:
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
                raise AudioError("cannot be read") from PermissionError()
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


class TestErrors:
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
