"""Exported folders appear whole or not at all, and say what they hold."""

import pytest

from speechbrain_sumra.adapter_file import read_metadata, save_adapter
from speechbrain_sumra.export.folder import new_folder, read_record, write_record


def test_a_failed_export_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "to" / "model") as new:
        (new / "half").touch()
        raise KeyError
    assert not list((tmp_path / "to").iterdir())


def test_files_beside_the_new_folder_go_with_the_temporary_one(tmp_path):
    with new_folder(tmp_path / "model") as new:
        (new / "kept").touch()
        (new.parent / "helper").touch()
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "model",
        "model/kept",
    ]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "model").mkdir()
    with new_folder(tmp_path / "model") as new:
        (new / "kept").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["kept"]


def test_files_can_be_read_by_whoever_can_read_new_files(tmp_path):
    (tmp_path / "ordinary").touch()
    with new_folder(tmp_path / "model") as new:
        (new / "weights").touch(mode=0o600)
    mode = (tmp_path / "model" / "weights").stat().st_mode
    assert mode == (tmp_path / "ordinary").stat().st_mode != 0o100600


def test_a_folder_with_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="new or empty"), new_folder(tmp_path):
        pytest.fail("the export was started")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "model"):
        pytest.fail("the export was started")


def test_a_record_has_what_the_model_says_and_what_the_file_says(adapted, tmp_path):
    model = adapted()
    write_record(tmp_path, model, "peft", "la", None)
    assert read_record(tmp_path) == {
        "format": "peft",
        "language": "la",
        "base_model": model.source,
        "base_fingerprint": model.base_fingerprint,
        "locale": "hsb",
        "method": "SumRA",
        "rank": 4,
    }
    save_adapter(
        tmp_path / "adapter", model, base_model="a/b", test_wer=41.5, locale="hsb"
    )
    write_record(tmp_path, model, "peft", "la", read_metadata(tmp_path / "adapter"))
    record = read_record(tmp_path)
    assert record["base_model"] == "a/b" and record["test_wer"] == 41.5


def test_another_folder_is_no_export(tmp_path):
    with pytest.raises(ValueError, match="not exported by this package"):
        read_record(tmp_path)
