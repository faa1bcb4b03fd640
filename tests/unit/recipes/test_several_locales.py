"""Several locales in one run: all of their clips, told apart."""

import pytest
from common_voice_prepare import CommonVoiceError, prepare_common_voice
from corpus import make_locale, report_of, rows_of
from several_locales import prepare_locales

SETTINGS = {"train_hours": 1, "dev_hours": 1, "test_hours": 1}


@pytest.fixture
def two(corpus):
    make_locale(corpus / "sv-SE", train=3)
    return corpus


def prepare(data_folder, save, locale):
    durations = save / "durations" / f"{locale}.csv"
    return prepare_locales(data_folder, save, locale, durations, **SETTINGS)


def test_one_locale_is_prepared_as_ever(corpus, save, tmp_path):
    ours = prepare(corpus, save, "eo")
    theirs = prepare_common_voice(corpus, tmp_path / "other", "eo", **SETTINGS)
    assert rows_of(ours["train"]) == rows_of(theirs["train"])
    assert report_of(ours) == report_of(theirs)


def test_rows_of_all_stand_below_each_other(two, save):
    paths = prepare(two, save, "eo+sv-SE")
    rows = rows_of(paths["train"])
    assert len(rows) == 20 + 3
    assert len({row["ID"] for row in rows}) == len(rows)
    assert {row["ID"].split("_")[0] for row in rows} == {"eo", "sv-SE"}
    assert all(row["wav"].startswith(f"$data_root/{row['locale']}/") for row in rows)
    kept = report_of(paths)["splits"]["train"]
    assert kept["clips_kept"] == len(rows)
    hours = sum(float(row["duration"]) for row in rows) / 3600
    assert kept["hours_kept"] == pytest.approx(hours, abs=1e-5)


def test_the_data_hash_follows_each_locale(two, save, tmp_path):
    first = report_of(prepare(two, save, "eo+sv-SE"))["data_hash"]
    assert report_of(prepare(two, save, "eo+sv-SE"))["data_hash"] == first
    make_locale(two / "sv-SE", train=4)
    assert report_of(prepare(two, tmp_path / "new", "eo+sv-SE"))["data_hash"] != first


def test_a_missing_one_is_named(corpus, save):
    with pytest.raises(CommonVoiceError, match="locale 'cs'"):
        prepare(corpus, save, "eo+cs")
