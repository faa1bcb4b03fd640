"""A: orthogonal rows, known lengths, and the same on every route."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from speechbrain_sumra.allocation import STRATEGIES, allocate, row_loads
from speechbrain_sumra.basis import (
    Basis,
    BasisError,
    normalize_rows,
    singular_triplets,
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
    _, values, vectors = singular_triplets(weight)
    expected = values.sqrt().unsqueeze(1) * vectors
    torch.testing.assert_close(sum_basis(weight, 4), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_triplets_rebuild_the_weight(shape):
    weight = weight_of(shape).double()
    left, values, right = singular_triplets(weight)
    torch.testing.assert_close(left @ torch.diag(values) @ right, weight)
    torch.testing.assert_close(left.T @ left, torch.eye(len(values)).double())
    assert left.dtype == values.dtype == right.dtype == torch.float64
    assert (values.diff() <= 0).all()


@pytest.mark.parametrize("shape", [(24, 24), (24, 60), (60, 24)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5, 2.9e5, 3e6, 1e12])
def test_ill_conditioned_weights_are_exact(shape, condition):
    """A is the one of the SVD to float32's precision, by whichever route."""
    number = min(shape)
    left = torch.linalg.qr(weight_of((shape[0], number)).double())[0]
    right = torch.linalg.qr(weight_of((shape[1], number), 1).double())[0]
    values = torch.logspace(0, -float(np.log10(condition)), number).double()
    weight = left @ torch.diag(values) @ right.T
    _, exact, vectors = np.linalg.svd(weight.numpy(), full_matrices=False)
    vectors = torch.from_numpy(vectors)
    signs = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    scaled = torch.from_numpy(exact).sqrt()[:, None] * vectors * signs
    rows = torch.stack([scaled[row::4].sum(dim=0) for row in range(4)])
    error = (sum_basis(weight, 4) - rows).norm(dim=1) / rows.norm(dim=1)
    assert error.max() < 3e-8


@pytest.mark.parametrize("shape", SHAPES)
def test_signs_are_fixed(shape):
    _, _, vectors = singular_triplets(weight_of(shape))
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


@pytest.mark.parametrize("row_norm, length", [("unit", 1.0), (2.5, 2.5), (3, 3.0)])
def test_rows_of_one_length(row_norm, length):
    weight = weight_of((12, 20))
    raw, rows = sum_basis(weight, 3), sum_basis(weight, 3, row_norm=row_norm)
    torch.testing.assert_close(rows.norm(dim=1), torch.full((3,), length).double())
    torch.testing.assert_close(rows / length, raw / raw.norm(dim=1, keepdim=True))
    assert torch.equal(normalize_rows(torch.zeros(2, 3), row_norm), torch.zeros(2, 3))


@pytest.mark.parametrize("row_norm", ["long", 0, -1.0, True, None])
def test_unusable_row_norm(row_norm):
    with pytest.raises(ValueError, match="'raw', 'unit' or a positive number"):
        sum_basis(weight_of((4, 4)), 2, row_norm=row_norm)


def test_slices_sum_to_interleave():
    weight = weight_of((12, 20))
    slices = [sum_basis(weight, 4, f"slice:{number}") for number in range(3)]
    torch.testing.assert_close(sum(slices), sum_basis(weight, 4))
    whole = sum_basis(weight, 12, "slice:0")
    torch.testing.assert_close(torch.cat(slices), whole)
    with pytest.raises(ValueError, match="no slice 3 of 4.*has 12"):
        sum_basis(weight, 4, "slice:3")


DESCRIPTION = {"base_fingerprint": "0123456789abcdef", "method": "SumRA", "rank": 4}


def basis_of(seed=0, **changes):
    tensors = {"fc1.down_proj": weight_of((4, 16), seed)}
    figures = {"fc1": {"load": 1.5}, "fc2": {"load": 1.25}}
    return Basis(tensors, {**DESCRIPTION, **changes}, figures)


def test_stored_basis_is_computed_once_and_read_back(tmp_path):
    made = []

    def compute():
        made.append(basis_of())
        return made[-1]

    first, path = stored_basis(tmp_path, DESCRIPTION, compute)
    second, same = stored_basis(tmp_path, DESCRIPTION, compute)
    assert same == path and len(made) == 1
    assert path.name.startswith("0123456789ab_SumRA_")
    assert second.fingerprint == first.fingerprint
    assert second.figures == first.figures
    assert second.largest_figures() == {"load": 1.5}
    assert torch.equal(second.tensors["fc1.down_proj"], first.tensors["fc1.down_proj"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_each_description_has_its_own_file(tmp_path):
    paths = {
        stored_basis(tmp_path, {**DESCRIPTION, **change}, basis_of)[1]
        for change in ({}, {"rank": 2}, {"method": "SORSA"}, {"base_fingerprint": "f"})
    }
    assert len(paths) == 4


def test_an_empty_basis_has_no_file(tmp_path):
    basis, path = stored_basis(tmp_path, DESCRIPTION, lambda: Basis({}, DESCRIPTION))
    assert path is None and not list(tmp_path.iterdir())
    assert basis.nbytes == 0 and basis.largest_figures() == {}


def test_damaged_or_foreign_files_are_refused(tmp_path):
    path = tmp_path / "basis.safetensors"
    basis_of().save(path)

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BasisError, match="cannot be read"):
        Basis.load(path)

    path.write_bytes(whole[:-40] + bytes(40))
    with pytest.raises(BasisError, match="damaged"):
        Basis.load(path)

    path.write_bytes(whole)
    save_file(load_file(path), path)
    with pytest.raises(BasisError, match="not a basis of this version"):
        Basis.load(path)

    with pytest.raises(BasisError, match="cannot be read"):
        Basis.load(tmp_path / "missing.safetensors")


def test_a_renamed_file_is_refused(tmp_path):
    _, path = stored_basis(tmp_path, DESCRIPTION, basis_of)
    basis_of(rank=2).save(path)
    with pytest.raises(BasisError, match="another basis than its name says"):
        stored_basis(tmp_path, DESCRIPTION, basis_of)
