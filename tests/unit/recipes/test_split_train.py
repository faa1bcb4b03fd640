"""Splits of a locale that has only train.tsv."""

import pytest
import split_train
from common_voice_folder import CommonVoiceError
from common_voice_prepare import prepare_common_voice
from corpus import ids_of, make_locale


@pytest.fixture
def generic(tmp_path):
    folder = make_locale(tmp_path / "generic" / "cs", train=40)
    for split in ("dev", "test"):
        (folder / f"{split}.tsv").unlink()
    rows = (folder / "train.tsv").read_text().splitlines()
    # Ten speakers, the first with many clips.
    speakers = [f"speaker{max(0, i - 30)}" for i in range(40)]
    named = [
        row.replace("client_id", who)
        for row, who in zip(rows[1:], speakers, strict=True)
    ]
    (folder / "train.tsv").write_text("\n".join([rows[0], *named]) + "\n")
    return folder.parent


def split(generic, tmp_path, *more):
    out = tmp_path / "split"
    folders = ["--data_folder", str(generic), "--output_folder", str(out)]
    split_train.main([*folders, *more])
    return out


def test_every_clip_is_in_one_split_and_speakers_stay_together(generic, tmp_path):
    out = split(generic, tmp_path)
    splits = {
        name: (out / "cs" / f"{name}.tsv").read_text().splitlines()[1:]
        for name in ("train", "dev", "test")
    }
    original = (generic / "cs" / "train.tsv").read_text().splitlines()[1:]
    assert clips_of(sum(splits.values(), [])) == clips_of(original)
    assert (len(splits["dev"]), len(splits["test"])) == (2, 2)
    speakers = [{line.split("\t")[0] for line in own} for own in splits.values()]
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 10
    # Digests: nobody is named.
    assert all(len(who) == 16 and "speaker" not in who for who in speakers[0])


def clips_of(lines):
    return sorted(line.split("\t")[1:] for line in lines)


def test_hostile_rows_are_left_out(generic, tmp_path, capsys):
    tsv = generic / "cs" / "train.tsv"
    rows = tsv.read_bytes().split(b"\n")
    rows[3] = rows[3].replace(b"frazo", "fra\u2028zo\x0b\x85".encode())
    rows[4] = rows[4].replace(b"frazo", b"\xff\xfe")
    rows[5] += b"\tone more column"
    tsv.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows))
    out = split(generic, tmp_path)
    assert "1 malformed rows are left out" in capsys.readouterr().out
    lines = [
        line
        for name in ("train", "dev", "test")
        for line in (out / "cs" / f"{name}.tsv").read_bytes().split(b"\n")[1:]
        if line
    ]
    assert len(lines) == 39


def test_a_table_without_paths_is_refused(generic, tmp_path):
    (generic / "cs" / "train.tsv").write_bytes(b"nothing")
    with pytest.raises(CommonVoiceError, match="expected a column path"):
        split(generic, tmp_path)


def test_the_recipe_can_use_them(generic, tmp_path):
    out = split(generic, tmp_path, "--locales", "cs", "--share", "0.1")
    paths = prepare_common_voice(out, tmp_path / "manifests", "cs")
    assert len(ids_of(paths["train"])) == 32
    assert len(ids_of(paths["dev"])) == len(ids_of(paths["test"])) == 4


def test_doing_it_again_changes_nothing(generic, tmp_path):
    first = (split(generic, tmp_path) / "cs" / "dev.tsv").read_bytes()
    assert (split(generic, tmp_path) / "cs" / "dev.tsv").read_bytes() == first


def test_a_missing_locale_is_named(generic, tmp_path):
    with pytest.raises(CommonVoiceError, match=r"for pl, found: cs\."):
        split(generic, tmp_path, "--locales", "pl")
