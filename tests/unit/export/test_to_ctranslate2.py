"""What the CTranslate2 export refuses; tests/peers runs what it writes."""

import pytest

from speechbrain_sumra.export import export_ctranslate2

pytest.importorskip("ctranslate2", reason="needs [export]")


def test_an_unknown_quantization_is_refused(adapted, tmp_path):
    with pytest.raises(ValueError, match="'int4'; expected one of float32, float16"):
        export_ctranslate2(adapted(), tmp_path / "ct2", quantization="int4")


def test_without_a_language_token_it_is_refused(adapted, tmp_path):
    model = adapted(base={"language": "none"})
    with pytest.raises(ValueError, match="export to Hugging Face"):
        export_ctranslate2(model, tmp_path / "ct2")
    assert not (tmp_path / "ct2").exists()
