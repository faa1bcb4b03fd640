"""CTranslate2's format: its types, and files that are not what they should be."""

import numpy as np
import pytest
import torch
from ctranslate2_writer import ct2_bytes, ct2_variables

from speechbrain_sumra.pretrained.ctranslate2_format import (
    CTranslate2FormatError,
    read_variables,
    to_state_dict,
)


@pytest.mark.parametrize("type_name", ["float16", "bfloat16"])
def test_half_precision_is_widened(tiny, type_name):
    dtype = getattr(torch, type_name)
    variables = {}
    for name, value in ct2_variables(tiny).items():
        if value.dtype == np.float32:
            half = torch.from_numpy(value).to(dtype)
            value = half if type_name == "bfloat16" else half.numpy()
        variables[name] = value
    state = to_state_dict(read_variables(ct2_bytes(variables)))
    for name, value in state.items():
        expected = tiny.state_dict()[name].to(dtype).float()
        assert value.dtype == np.float32
        assert torch.equal(torch.from_numpy(value), expected), name


def test_int8_is_divided_by_its_row_scale(tiny):
    variables = ct2_variables(tiny)
    rng = np.random.default_rng(0)
    expected = {}
    for name in [n for n in variables if n.endswith("weight")]:
        value = variables[name]
        q = rng.integers(-127, 128, value.shape, dtype=np.int8)
        scale = rng.uniform(50, 900, len(value)).astype(np.float32)
        variables[name], variables[f"{name}_scale"] = q, scale
        rows = [q[i].astype(np.float32) / scale[i] for i in range(len(q))]
        expected[name] = np.stack(rows)
    state = to_state_dict(read_variables(ct2_bytes(variables)))
    query, key, value = (
        state[f"model.decoder.layers.0.self_attn.{x}_proj.weight"] for x in "qkv"
    )
    stacked = expected["decoder/layer_0/self_attention/linear_0/weight"]
    assert np.array_equal(np.concatenate([query, key, value]), stacked)
    conv = expected["encoder/conv1/weight"]
    assert np.array_equal(state["model.encoder.conv1.weight"], conv)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"version": 3}, "format version 6 .found 3"),
        ({"spec": "TransformerSpec"}, "'TransformerSpec' model"),
    ],
)
def test_wrong_header(options, message):
    with pytest.raises(CTranslate2FormatError, match=message):
        read_variables(ct2_bytes({}, **options))


def test_every_truncation_is_named():
    data = ct2_bytes({"a/weight": np.ones((2, 3), np.float32)})
    for end in range(len(data)):
        with pytest.raises(CTranslate2FormatError, match="truncated"):
            read_variables(data[:end])


def test_corrupt_fields():
    data = ct2_bytes({"decoder/embeddings/weight": np.ones(4, np.float32)})
    assert set(read_variables(data)) == {
        "decoder/embeddings/weight",
        "decoder/projection/weight",
    }
    with pytest.raises(CTranslate2FormatError, match="1 bytes after"):
        read_variables(data + b"x")
    at = data.index(b"weight\0") + len(b"weight\0") + 5  # the type, then the size
    with pytest.raises(CTranslate2FormatError, match="unknown type 9"):
        read_variables(data[:at] + b"\x09" + data[at + 1 :])
    with pytest.raises(CTranslate2FormatError, match="needs 16 bytes"):
        read_variables(data[: at + 1] + b"\x0f" + data[at + 2 :])
