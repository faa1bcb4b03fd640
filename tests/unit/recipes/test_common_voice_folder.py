"""Common Voice folders and tables, as releases have them and as they break."""

import numpy as np
import pytest
import soundfile
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from corpus import (
    NEW_COLUMNS,
    OLD_COLUMNS,
    ids_of,
    make_locale,
    report_of,
    rows_of,
    write_clip,
    write_tsv,
)


class TestManifests:
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


class TestDrops:
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

    @pytest.mark.parametrize(
        "path", ["/etc/passwd", "../clips/dev_0.wav", "a/../../x.mp3", "C:\\a.mp3"]
    )
    def test_path_out_of_clips(self, corpus, save, path):
        rows = [("dev_0.wav", "a"), (path, "b")]
        write_tsv(corpus / "eo" / "dev.tsv", rows)
        with pytest.raises(CommonVoiceError, match=r"dev\.tsv, row 3: expected"):
            prepare_common_voice(corpus, save, "eo")
