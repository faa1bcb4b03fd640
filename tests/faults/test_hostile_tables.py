"""Common Voice tables by somebody who means harm, or made by a broken program."""

import csv
import json
from pathlib import Path

import pytest
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from corpus import make_locale, rows_of, write_clip, write_tsv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechbrain_sumra.data import load_datasets
from speechbrain_sumra.whisper import Whisper

NAMES = [b"train_0.wav", b"train_1.wav", b"train_1", b"link.wav", b"missing.mp3", b""]
HOSTILE = [
    *(b"../x.wav", b"/etc/passwd", b"C:\\x.wav", b"a/../../x.mp3", b"$data_root/x.wav"),
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", "\u202eabc".encode(), "\u2028".encode()),
    *(b'"', b"'", b"=cmd|' /C calc'!A0", b"@SUM(1)", b"-1", b"\x1b[31m", b"\x85"),
    *(b"\r", b"a" * 300, b"%s%n", b"{0}", b"<script>", "e\u0301".encode(), b" "),
]
fields = st.one_of(
    st.sampled_from(NAMES + HOSTILE),
    st.binary(max_size=20),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(HOSTILE), max_size=3).map(b"".join),
)
rows = st.lists(st.lists(fields, max_size=6).map(b"\t".join), max_size=8)
headers = st.one_of(
    st.just(b"client_id\tpath\tsentence"),
    st.just(b"sentence\tpath"),
    st.lists(st.sampled_from([b"path", b"sentence", b"path", b"\0"]), max_size=4).map(
        b"\t".join
    ),
    st.binary(max_size=30),
)
tables = st.builds(
    lambda start, header, lines, end: start + end.join([header, *lines]),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]),
    headers,
    rows,
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A locale with clips, a link out of them, and files that must stay as they are."""
    folder = tmp_path_factory.mktemp("hostile") / "cv"
    make_locale(folder / "eo", train=2, dev=1, test=1)
    write_clip(folder.parent, "secret.wav")
    (folder / "eo" / "clips" / "link.wav").symlink_to(folder.parent / "secret.wav")
    return folder


def files_of(folder):
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.fault(
    fault="hostile tables of clips",
    provoked="property-based: paths out of clips/, NULs, broken and mixed encodings, "
    "byte order marks, line ends, wrong numbers of columns, formulas, directions",
    result="each row is kept, or left out and counted; or one error names the row; "
    "nothing is written elsewhere",
)
@given(table=tables)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_table(corpus, tmp_path_factory, table):
    tsv = corpus / "eo" / "train.tsv"
    tsv.write_bytes(table)
    before = files_of(corpus.parent)
    out = tmp_path_factory.mktemp("out")
    try:
        paths = prepare_common_voice(corpus, out, "eo")
    except CommonVoiceError as error:
        assert str(error)
        assert not (out / "train.csv").exists()
    else:
        report = json.loads(Path(paths["report"]).read_text(encoding="utf-8"))
        split = report["splits"]["train"]
        dropped = sum(drop["count"] for drop in split["dropped"].values())
        kept = rows_of(paths["train"])
        assert split["clips_kept"] == len(kept) > 0
        assert split["clips_kept"] + dropped == split["clips_examined"]
        assert split["clips_examined"] == split["rows_in_tsv"]
        for row in kept:
            assert row["ID"] in ("train_0", "train_1")
            assert row["wav"].startswith("$data_root/eo/clips/train_")
            assert row["wrd"] and "\0" not in row["wrd"] and "$" not in row["wrd"]
    assert files_of(corpus.parent) == before


SENTENCES = {
    "a megabyte": "a" * 2**20,
    "right to left": "\u202e\u2067abc\u2069 שלום",
    "a formula": '=HYPERLINK("http://example.org")',
    "a variable": "$data_root",
    "line separators": "a\u2028b\x0bc\x85d",
    "controls": "a\x1b[2Jb\x07",
    "nothing but marks": "\u0301\u0301",
    "special tokens": "<|endoftext|> <|startoftranscript|>",
}


@pytest.mark.fault(
    fault="hostile sentences",
    provoked=", ".join(SENTENCES),
    result="trained on as text, or left out and counted",
)
def test_sentences_reach_the_datasets_as_text(tmp_path, tiny_whisper):
    folder = make_locale(tmp_path / "cv" / "eo", train=len(SENTENCES) + 1)
    rows = [
        (f"train_{i}.wav", sentence)
        for i, sentence in enumerate([*SENTENCES.values(), "bona frazo"])
    ]
    write_tsv(folder / "train.tsv", rows)
    paths = prepare_common_voice(tmp_path / "cv", tmp_path / "out", "eo")
    report = json.loads(Path(paths.pop("report")).read_text(encoding="utf-8"))
    whisper = Whisper(tiny_whisper, tmp_path, "none")
    datasets, dropped = load_datasets(paths, str(tmp_path / "cv"), whisper)
    left_out = report["splits"]["train"]["dropped"]
    counts = sum(drop["count"] for drop in left_out.values())
    counts += sum(dropped["train"].values())
    assert len(datasets["train"]) + counts == len(rows)
    assert left_out["text_too_long"]["clips"] == ["train_0.wav"]
    special = range(whisper.eos, whisper.config.vocab_size)
    for item in datasets["train"]:
        assert item["wav"].startswith(str(tmp_path / "cv"))
        text = item["tokens_bos"][len(whisper.prompt_of("eo")) :].tolist()
        assert not set(text) & set(special), item["wrd"]


@pytest.mark.fault(
    fault="privacy of speakers",
    provoked="a corpus whose client_ids, ages and accents are known",
    result="manifests, reports, logs and summaries have none of them",
)
def test_no_speaker_is_named(tmp_path):
    folder = make_locale(tmp_path / "cv" / "eo")
    for split in ("train", "dev", "test"):
        tsv = folder / f"{split}.tsv"
        text = tsv.read_text().replace("client_id\ttrain", "SPEAKER_7\ttrain")
        tsv.write_text(text.replace("up_votes", "SPEAKER_7", 2))
    columns = (folder / "train.tsv").read_text().splitlines()[0].split("\t")
    assert columns[0] == "client_id"
    paths = prepare_common_voice(tmp_path / "cv", tmp_path / "out", "eo")
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*.*"))
    assert b"SPEAKER_7" not in written and b"client_id" not in written
    with open(paths["train"], encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["ID", "duration", "wav", "wrd", "locale"]
