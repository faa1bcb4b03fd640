"""Adapters are found by the locale that they name, and none is guessed."""

import pytest
from languages import Languages

from speechbrain_sumra.adapter_file import AdapterFileError
from speechbrain_sumra.adapter_folder import find_adapters


def test_adapters_are_found_by_the_locale_they_name(tiny_whisper, tmp_path):
    languages = Languages(tmp_path, tiny_whisper)
    a, b = languages.make("a", 1), languages.make("b", 2)
    assert find_adapters(a) == {"a": a}
    assert find_adapters(tmp_path) == {"a": a, "b": b}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "adapter.safetensors").write_bytes(a.read_bytes())
    with pytest.raises(AdapterFileError, match="Two adapters of 'a'"):
        find_adapters(tmp_path)
    assert find_adapters(tmp_path, ["b"])["b"] == b
    with pytest.raises(AdapterFileError, match="Two adapters of 'a'"):
        find_adapters(tmp_path, ["a"])
    # A run's own, not those of an average's members.
    own = tmp_path / "run" / "adapter.safetensors"
    (own.parent / "slice_0").mkdir()
    (own.parent / "slice_0" / own.name).write_bytes(a.read_bytes())
    assert find_adapters(own.parent) == {"a": own}
    a.unlink()
    beside = own.with_name("c.safetensors")
    languages.make("c", 3).rename(beside)
    assert find_adapters(tmp_path) == {"a": own, "b": b, "c": beside}
    beside.unlink()
    assert find_adapters(tmp_path) == {"a": own, "b": b}
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterFileError, match="No adapter file"):
        find_adapters(tmp_path / "empty")
    with pytest.raises(AdapterFileError, match="nowhere"):
        find_adapters(tmp_path / "nowhere")
