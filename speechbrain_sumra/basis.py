"""From a weight to A, and the basis: what all languages share beside the base.

A row of A is a sum of singular vectors, and the signs of singular vectors are
arbitrary: one flipped inside a sum gives another A, on which a trained B is
worthless.  So A is made by a fixed recipe (SVD in float64, fixed signs), kept
in one file a base model, and named by a fingerprint that every adapter
trained on it repeats.  What other methods freeze or start from (random
projections, principal singular vectors) is kept in the same way.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speechbrain_sumra.allocation import allocate, max_load_bound, row_loads
from speechbrain_sumra.files import replacing
from speechbrain_sumra.fingerprint import fingerprint_rows

FORMAT = "sumra-basis-2"
MAX_CONDITION = 3e5


class BasisError(ValueError):
    """A basis file that is damaged, or belongs to another model or setting."""


def singular_triplets(
    weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular values and vectors of a weight, with fixed signs.

    ``W0 = U diag(s) V^T`` in float64, so that every machine gets the same to
    rounding.  Of each v_j the entry of largest magnitude is made positive
    (u_j follows); of several such entries the first decides.

    The smaller Gram matrix (``W0^T W0`` or ``W0 W0^T``) has the same singular
    vectors, and its symmetric eigen-decomposition is several times faster
    than an SVD, but loses digits by the square of the condition number
    s_1 / s_p. Up to ``MAX_CONDITION`` what remains is more than float32 can
    hold; beyond it, and there alone, the SVD is used.

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k), as in ``torch.nn.Linear.weight``.

    Returns
    -------
    left : torch.Tensor
        U, shape (d, p), p = min(d, k), float64.
    values : torch.Tensor
        s, shape (p,), largest first, float64.
    right : torch.Tensor
        V^T, shape (p, k), float64.

    Raises
    ------
    ValueError
        If the weight is not a matrix or has a value that is not finite.

    Example
    -------
    >>> left, values, right = singular_triplets(torch.tensor([[0.0, -2.0], [1, 0]]))
    >>> left.tolist(), values.tolist(), right.tolist()
    ([[-1.0, 0.0], [0.0, 1.0]], [2.0, 1.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    if weight.ndim != 2:
        raise ValueError(
            f"Expected a weight matrix (d x k), got shape {tuple(weight.shape)}."
        )
    # The same on every machine; and layers are in threads, several of which must not
    # load a GPU's solver at once, as the first call does.
    weight = weight.detach().to(device="cpu", dtype=torch.float64)
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise ValueError(
            f"The weight has {bad} values that are NaN or infinite; its "
            "singular vectors are undefined. Is the checkpoint damaged?"
        )
    left, values, right = _from_gram_matrix(weight) or torch.linalg.svd(
        weight, full_matrices=False
    )
    signs = _row_signs(right)
    # + 0.0 turns -0.0 into 0.0
    return left * signs.T + 0.0, values, right * signs + 0.0


def _row_signs(rows):
    """Sign of the entry of largest magnitude of each row, (r, 1)."""
    return torch.sign(rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)))


def fix_signs(rows: torch.Tensor) -> torch.Tensor:
    """Rows that are unique but for their signs, with the signs that are used here.

    Arguments
    ---------
    rows : torch.Tensor
        Shape (r, k).

    Returns
    -------
    torch.Tensor
        Shape (r, k), the entry of largest magnitude of each row positive; of several
        such entries the first decides.

    Example
    -------
    >>> fix_signs(torch.tensor([[1.0, -2.0], [3.0, 1.0]])).tolist()
    [[-1.0, 2.0], [3.0, 1.0]]
    """
    return rows * _row_signs(rows) + 0.0


def _from_gram_matrix(weight):
    """U, s and V^T by an eigen-decomposition; None if that is not exact enough."""
    tall = weight.shape[0] >= weight.shape[1]
    gram = weight.T @ weight if tall else weight @ weight.T
    squares, vectors = torch.linalg.eigh(gram)
    squares, vectors = squares.flip(0), vectors.flip(1)
    if squares[-1] * MAX_CONDITION**2 <= squares[0]:
        return None
    values = squares.sqrt()
    if tall:
        return weight @ vectors / values, values, vectors.T
    return vectors, values, vectors.T @ weight / values[:, None]


def sum_basis(
    weight: torch.Tensor,
    rank: int,
    strategy: str = "interleave",
    row_norm: str | float = "raw",
) -> torch.Tensor:
    """A of one layer: ``a_i = sum over j in S_i of sqrt(s_j) v_j`` (eq. 10).

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k).
    rank : int
        Rows of A, 1 <= rank <= min(d, k).
    strategy : str
        "interleave", "block", "greedy" or "slice:0", "slice:1", ...
    row_norm : str or float
        "raw", "unit" or a length; see ``normalize_rows``.

    Returns
    -------
    torch.Tensor
        A, shape (rank, k), float64. Its rows are orthogonal, and with
        ``row_norm="raw"`` the squared length of row i is the load ``L_i``.

    Raises
    ------
    ValueError
        If rank, strategy, row_norm or weight is unusable.

    Example
    -------
    >>> a = sum_basis(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])), rank=2)
    >>> (a @ a.T).round(decimals=6).tolist()
    [[6.0, 0.0], [0.0, 4.0]]
    """
    return sum_basis_and_load(weight, rank, strategy, row_norm)[0]


def sum_basis_and_load(
    weight: torch.Tensor, rank: int, strategy: str, row_norm: str | float
) -> tuple[torch.Tensor, float]:
    """``sum_basis``, and the layer's largest row load over its lower bound.

    Arguments
    ---------
    weight, rank, strategy, row_norm
        As for ``sum_basis``.

    Returns
    -------
    rows : torch.Tensor
        A, shape (rank, k), float64.
    load_over_bound : float
        ``L_max`` over ``max_load_bound``; 1 is as even as can be.
    """
    _, values, right = singular_triplets(weight)
    index_sets = allocate(values.numpy(), rank, strategy)
    scaled = values.sqrt().unsqueeze(1) * right
    rows = torch.stack([scaled[indices].sum(dim=0) for indices in index_sets])
    bound = max_load_bound(values.numpy(), rank)
    load = row_loads(values.numpy(), index_sets).max()
    return normalize_rows(rows, row_norm), float(load / bound) if bound > 0 else 1.0


def normalize_rows(rows: torch.Tensor, row_norm: str | float) -> torch.Tensor:
    """Give every row of A the same length, or leave them.

    Adam's step on B does not depend on the length of A's rows, but what the
    step does to the output does. Rows of one length make the learning rates
    of methods with a frozen A comparable.

    Arguments
    ---------
    rows : torch.Tensor
        A, shape (r, k).
    row_norm : str or float
        "raw" leaves the rows, "unit" makes each 1 long, a number that long.

    Returns
    -------
    torch.Tensor
        Shape (r, k). Rows of zeros stay zero.

    Raises
    ------
    ValueError
        If row_norm is none of these.

    Example
    -------
    >>> normalize_rows(torch.tensor([[3.0, 4.0]]), 10).tolist()
    [[6.0, 8.0]]
    """
    if row_norm == "raw":
        return rows
    length = 1.0 if row_norm == "unit" else row_norm
    if not isinstance(length, (int, float)) or isinstance(length, bool) or length <= 0:
        raise ValueError(
            f"row_norm must be 'raw', 'unit' or a positive number, got {row_norm!r}."
        )
    lengths = rows.norm(dim=1, keepdim=True)
    return rows * (length / lengths.masked_fill(lengths == 0, 1.0))


@dataclass(frozen=True)
class Basis:
    """What a method computes once for a base model, for all languages.

    For SumRA these are the frozen A's; for others, what they freeze or
    start from.

    Arguments
    ---------
    tensors : dict of str to torch.Tensor
        By layer and name, e.g. "model.decoder.layers.0.fc1.down_proj".
    description : dict
        What they were made from: base_fingerprint, method, settings, layers.
    figures : dict of str to dict of str to float
        Facts about each layer that are worth a report, e.g. the largest row
        load over its lower bound.
    made_from : dict
        What it was made from beside the base model's weights: speech, if any.

    Example
    -------
    >>> a = torch.eye(2, 4)
    >>> basis = Basis({"fc1.down_proj": a}, {"method": "SumRA"})
    >>> path = getfixture("tmp_path") / "basis.safetensors"
    >>> basis.save(path)
    >>> Basis.load(path).fingerprint == basis.fingerprint
    True
    """

    tensors: dict[str, torch.Tensor]
    description: dict
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    made_from: dict = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """``fingerprint_rows`` of the tensors."""
        return fingerprint_rows(self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def largest_figures(self) -> dict[str, float]:
        """The largest value of each figure over the layers."""
        names = sorted(
            {name for of_layer in self.figures.values() for name in of_layer}
        )
        return {name: max(f[name] for f in self.figures.values()) for name in names}

    def save(self, path: str | Path) -> None:
        """Write the basis to a safetensors file, all or nothing.

        Arguments
        ---------
        path : str or Path
            The file to write.
        """
        metadata = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "description": json.dumps(self.description),
            "figures": json.dumps(self.figures),
            "made_from": json.dumps(self.made_from),
        }
        with replacing(path) as partial:
            # save_file would make a file that only its owner can read.
            partial.write_bytes(save(self.tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Basis":
        """Read a basis and check that it is what its metadata says.

        Arguments
        ---------
        path : str or Path
            A file written by ``save``.

        Returns
        -------
        Basis

        Raises
        ------
        BasisError
            If the file is not a basis, damaged, or altered.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise BasisError(
                f"{path} cannot be read as a basis: {error}. If it is damaged, delete "
                "it: it will be computed again."
            ) from error
        if metadata.get("format") != FORMAT:
            raise BasisError(
                f"{path} is not a basis of this version: expected format "
                f"{FORMAT!r}, found {metadata.get('format')!r}."
            )
        try:
            basis = cls(
                tensors,
                json.loads(metadata["description"]),
                json.loads(metadata["figures"]),
                json.loads(metadata.get("made_from", "{}")),
            )
            expected = metadata["fingerprint"]
            found = basis.fingerprint
        except (KeyError, ValueError, RecursionError, RuntimeError) as error:
            raise BasisError(f"{path} is damaged: {error!r}. Delete it.") from error
        if found != expected:
            raise BasisError(
                f"{path} is damaged: its contents have the fingerprint "
                f"{found[:12]}, its metadata says {expected[:12]}. Delete it; it will "
                "be computed again."
            )
        return basis


def stored_basis(
    folder: str | Path, description: dict, compute: Callable[[], Basis]
) -> tuple[Basis, Path | None]:
    """A basis: read if it is stored, else computed and, unless empty, stored.

    Arguments
    ---------
    folder : str or Path
        Where bases are kept.
    description : dict
        What the basis is made from; "base_fingerprint" and "method" start
        the file's name, a hash of all of it ends it.
    compute : callable
        Makes the basis.

    Returns
    -------
    basis : Basis
    path : Path
        Its file; None if it has no tensors.

    Raises
    ------
    BasisError
        If the stored file is damaged, or is another basis.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    start = f"{description['base_fingerprint'][:12]}_{description['method']}"
    path = Path(folder) / f"{start}_{digest.hexdigest()[:8]}.safetensors"
    if not path.exists():
        basis = compute()
        if not basis.tensors:
            return basis, None
        basis.save(path)
        return basis, path
    basis = Basis.load(path)
    if basis.description != description:
        raise BasisError(
            f"{path} holds another basis than its name says: {basis.description}, "
            f"expected {description}. Delete it; it will be computed again."
        )
    return basis, path
