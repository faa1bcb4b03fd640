"""A: orthogonal rows, known lengths, and the same on every route."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from speechbrain_sumra.allocation import STRATEGIES, allocate, row_loads
from speechbrain_sumra.basis import (
    Basis,
    BasisError,
    singular_vectors,
    stored_basis,
    sum_basis,
)
from speechbrain_sumra.fingerprint import fingerprint_rows

SHAPES = [(48, 48), (48, 192), (192, 48), (5, 3)]


def weight_of(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_are_orthogonal_and_as_long_as_their_loads(shape, strategy):
    weight = weight_of(shape)
    rank = 3
    a = sum_basis(weight, rank, strategy)
    assert a.shape == (rank, shape[1])
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    loads = row_loads(values, allocate(values, rank, strategy))
    torch.testing.assert_close(a @ a.T, torch.diag(torch.from_numpy(loads)))


def test_rank_p_interleave_is_the_scaled_vectors():
    weight = weight_of((4, 6))
    values, vectors = singular_vectors(weight)
    expected = values.sqrt().unsqueeze(1) * vectors
    torch.testing.assert_close(sum_basis(weight, 4), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_triplets_rebuild_the_weight(shape):
    weight = weight_of(shape).double()
    values, vectors = singular_vectors(weight)
    left = weight @ vectors.T / values
    torch.testing.assert_close(left @ torch.diag(values) @ vectors, weight)
    assert values.dtype == vectors.dtype == torch.float64
    assert (values.diff() <= 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_signs_are_fixed(shape):
    _, vectors = singular_vectors(weight_of(shape))
    largest = vectors.abs().argmax(dim=1, keepdim=True)
    assert (vectors.gather(1, largest) > 0).all()


def test_same_a_for_the_transposed_route():
    """Right vectors of W are left vectors of W^T, whatever LAPACK does."""
    weight = weight_of((48, 192))
    left, values, _ = torch.linalg.svd(weight.T.double(), full_matrices=False)
    vectors = left.T
    signs = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    scaled = values.sqrt().unsqueeze(1) * vectors * signs
    expected = torch.stack([scaled[row::8].sum(dim=0) for row in range(8)])
    torch.testing.assert_close(sum_basis(weight, 8), expected)


def test_same_a_for_any_number_of_threads():
    weight = weight_of((192, 192))
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            results.append(sum_basis(weight, 8))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-10, rtol=0)
        assert fingerprint_rows({"x": result}) == fingerprint_rows({"x": results[0]})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad):
    weight = weight_of((8, 8))
    weight[3, 3] = bad
    with pytest.raises(ValueError, match="1 values that are NaN or infinite"):
        sum_basis(weight, 2)


def test_a_vector_is_no_weight():
    with pytest.raises(ValueError, match="weight matrix"):
        sum_basis(torch.ones(8), 2)


def test_zero_weight_gives_zero_rows():
    assert (sum_basis(torch.zeros(4, 4), 2) == 0).all()


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))


def test_stored_basis_is_computed_once_and_read_back(tmp_path):
    model = two_layers()
    first, path = stored_basis(model, ["0", "1"], 4, "greedy", tmp_path)
    written = path.stat().st_mtime_ns
    second, same = stored_basis(model, ["0", "1"], 4, "greedy", tmp_path)
    assert same == path and path.stat().st_mtime_ns == written
    assert second.fingerprint == first.fingerprint
    assert second.load_ratios == first.load_ratios
    for name, rows in first.down_projections.items():
        assert torch.equal(second.down_projections[name], rows)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_each_rank_strategy_and_model_has_its_own_file(tmp_path):
    model, other = two_layers(), nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))
    paths = {
        stored_basis(which, ["0", "1"], rank, strategy, tmp_path)[1]
        for which in (model, other)
        for rank in (2, 4)
        for strategy in STRATEGIES
    }
    assert len(paths) == 12


def test_unusable_rank_names_the_layer():
    with pytest.raises(
        ValueError, match="Layer 1: rank must be an integer from 1 to 8"
    ):
        Basis.build(two_layers(), ["1"], 9)


def test_damaged_or_foreign_files_are_refused(tmp_path):
    basis = Basis.build(two_layers(), ["0", "1"], 4)
    path = tmp_path / "basis.safetensors"
    basis.save(path)

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BasisError, match="cannot be read"):
        Basis.load(path)

    path.write_bytes(whole[:-400] + bytes(400))
    with pytest.raises(BasisError, match="damaged"):
        Basis.load(path)

    path.write_bytes(whole)
    save_file(load_file(path), path)
    with pytest.raises(BasisError, match="not a basis of this version"):
        Basis.load(path)

    with pytest.raises(BasisError, match="cannot be read"):
        Basis.load(tmp_path / "missing.safetensors")


def test_stored_basis_for_other_layers_is_refused(tmp_path):
    model = two_layers()
    stored_basis(model, ["0"], 4, "block", tmp_path)
    with pytest.raises(BasisError, match="1 layers, this model adapts 2"):
        stored_basis(model, ["0", "1"], 4, "block", tmp_path)
