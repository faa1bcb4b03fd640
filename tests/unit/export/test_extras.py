"""Without its library an export says how to install it, before any work."""

import sys

import pytest

from speechbrain_sumra.export import export_ctranslate2, export_peft
from speechbrain_sumra.peft_adapters import MissingExtraError


@pytest.mark.parametrize(
    ("export", "library"), [(export_peft, "peft"), (export_ctranslate2, "ctranslate2")]
)
def test_a_missing_library_is_named_with_its_extra(
    export, library, adapted, tmp_path, monkeypatch
):
    model = adapted()
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=rf"{library}.*sumra\[export\]"):
        export(model, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
