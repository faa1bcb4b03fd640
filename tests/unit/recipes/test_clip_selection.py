"""Clips of a split: which are kept, in what order, and why not."""

import clip_selection
import pytest
from common_voice_prepare import prepare_common_voice
from corpus import ids_of, report_of, rows_of, seconds, write_clip, write_tsv


class TestManifests:
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

    def test_limits_are_inclusive(self, corpus, save):
        rows = [("dev_0.wav", "a" * 30), ("dev_1.wav", "a" * 31)]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        paths = prepare_common_voice(
            corpus, save, "eo", max_duration=0.5, max_characters=30
        )
        assert ids_of(paths["dev"]) == ["dev_0"]
