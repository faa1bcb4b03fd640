"""Storage: what is rounded, by how much, and how many bytes it takes."""

import pytest
import torch

from speechbrain_sumra.storage import decode, encode


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    matrix = torch.randn(40, 8) * torch.logspace(-4, 2, 40)[:, None]
    matrix[3] = 0.0
    return {"b": matrix, "norm": torch.randn(16)}


def test_fp32_is_exact(tensors):
    for name, value in decode(encode(tensors, "fp32")).items():
        assert torch.equal(value, tensors[name])


def test_fp16_is_rounded_to_eleven_bits(tensors):
    stored = encode(tensors, "fp16")
    assert all(value.dtype == torch.float16 for value in stored.values())
    for name, value in decode(stored).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, tensors[name], rtol=2**-11, atol=2**-25)


def test_int8_is_rounded_to_half_a_step_of_each_row(tensors):
    stored = encode(tensors, "int8")
    assert stored["b"].dtype == torch.int8 and stored["norm"].dtype == torch.float16
    found = decode(stored)
    assert found.keys() == tensors.keys()
    step = tensors["b"].abs().amax(dim=1, keepdim=True) / 127
    assert ((found["b"] - tensors["b"]).abs() <= step * 0.5001).all()
    assert torch.equal(found["b"][3], torch.zeros(8))
    assert stored["b"].nbytes + stored["b:scale"].nbytes == 40 * 8 + 40 * 4


def test_what_a_storage_cannot_hold_is_refused():
    large = {"b": torch.tensor([[1e5]])}
    with pytest.raises(ValueError, match="b has values up to 1e\\+05"):
        encode(large, "fp16")
    assert decode(encode(large, "int8"))["b"].item() == pytest.approx(1e5)
    with pytest.raises(ValueError, match="Unknown storage 'int4'"):
        encode(large, "int4")


def test_damaged_scales_leave_integers_which_are_refused_where_they_are_read():
    stored = encode({"b": torch.ones(3, 2)}, "int8")
    stored["b:scale"] = torch.ones(2)
    assert not decode(stored)["b"].is_floating_point()
