"""From a weight to A, and the basis: the A of every adapted layer of a model.

A row of A is a sum of singular vectors, and the signs of singular vectors are
arbitrary: one flipped inside a sum gives another A, on which a trained B is
worthless.  So A is made by a fixed recipe (SVD in float64, fixed signs), kept
in one file a base model, and named by a fingerprint that every adapter
trained on it repeats.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from speechbrain.utils.logger import get_logger
from torch import nn
from tqdm import tqdm

from speechbrain_sumra.allocation import allocate, max_load_bound, row_loads
from speechbrain_sumra.files import replacing
from speechbrain_sumra.fingerprint import fingerprint_rows, fingerprint_weights

logger = get_logger(__name__)

FORMAT = "sumra-basis-1"


class BasisError(ValueError):
    """A basis file that is damaged, or belongs to another model or setting."""


def singular_vectors(
    weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values and right singular vectors with fixed signs.

    ``W0 = U diag(s) V^T`` in float64 on the CPU, so that every machine gets
    the same to rounding.  Of each v_j the entry of largest magnitude is made
    positive; of several such entries the first decides.

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k), as in ``torch.nn.Linear.weight``.

    Returns
    -------
    values : torch.Tensor
        s, shape (p,), p = min(d, k), largest first, float64.
    vectors : torch.Tensor
        V^T, shape (p, k), float64.

    Raises
    ------
    ValueError
        If the weight is not a matrix or has a value that is not finite.

    Example
    -------
    >>> values, vectors = singular_vectors(torch.tensor([[0.0, -2.0], [1.0, 0.0]]))
    >>> values.tolist()
    [2.0, 1.0]
    >>> vectors.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if weight.ndim != 2:
        raise ValueError(
            f"Expected a weight matrix (d x k), got shape {tuple(weight.shape)}."
        )
    weight = weight.detach().to(device="cpu", dtype=torch.float64)
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise ValueError(
            f"The weight has {bad} values that are NaN or infinite; its "
            "singular vectors are undefined. Is the checkpoint damaged?"
        )
    _, values, vectors = torch.linalg.svd(weight, full_matrices=False)
    largest = vectors.abs().argmax(dim=1, keepdim=True)
    signs = torch.sign(vectors.gather(1, largest))
    return values, vectors * signs + 0.0  # + 0.0 turns -0.0 into 0.0


def sum_basis(
    weight: torch.Tensor, rank: int, strategy: str = "interleave"
) -> torch.Tensor:
    """A of one layer: ``a_i = sum over j in S_i of sqrt(s_j) v_j`` (eq. 10).

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k).
    rank : int
        Rows of A, 1 <= rank <= min(d, k).
    strategy : str
        "interleave", "block" or "greedy".

    Returns
    -------
    torch.Tensor
        A, shape (rank, k), float64. Its rows are orthogonal, and the squared
        length of row i is the load ``L_i``.

    Raises
    ------
    ValueError
        If rank, strategy or weight is unusable.

    Example
    -------
    >>> a = sum_basis(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])), rank=2)
    >>> (a @ a.T).round(decimals=6).tolist()
    [[6.0, 0.0], [0.0, 4.0]]
    """
    return _sum_basis(weight, rank, strategy)[0]


def _sum_basis(
    weight: torch.Tensor, rank: int, strategy: str
) -> tuple[torch.Tensor, float]:
    """A of one layer, and its largest load over the lower bound of any."""
    values, vectors = singular_vectors(weight)
    index_sets = allocate(values.numpy(), rank, strategy)
    scaled = values.sqrt().unsqueeze(1) * vectors
    rows = torch.stack([scaled[indices].sum(dim=0) for indices in index_sets])
    loads = row_loads(values.numpy(), index_sets)
    bound = max_load_bound(values.numpy(), rank)
    return rows, float(loads.max() / bound) if bound > 0 else 1.0


@dataclass(frozen=True)
class Basis:
    """The frozen A of every adapted layer of one base model.

    Arguments
    ---------
    down_projections : dict of str to torch.Tensor
        A (rank x k, float32) by layer name.
    rank : int
        Rows of each A.
    strategy : str
        How the rows were made.
    base_fingerprint : str
        ``fingerprint_weights`` of the base model.
    load_ratios : dict of str to float
        For each layer ``L_max`` over the lower bound of any allocation; 1 is
        as even as can be.

    Example
    -------
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    >>> basis = Basis.build(model, ["0", "1"], rank=2)
    >>> path = getfixture("tmp_path") / "basis.safetensors"
    >>> basis.save(path)
    >>> Basis.load(path).fingerprint == basis.fingerprint
    True
    """

    down_projections: dict[str, torch.Tensor]
    rank: int
    strategy: str
    base_fingerprint: str
    load_ratios: dict[str, float] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """``fingerprint_rows`` of the A's."""
        return fingerprint_rows(self.down_projections)

    @property
    def nbytes(self) -> int:
        """Bytes of all A's in float32."""
        return sum(rows.nbytes for rows in self.down_projections.values())

    @classmethod
    def build(
        cls,
        model: nn.Module,
        layers: Iterable[str],
        rank: int,
        strategy: str = "interleave",
        base_fingerprint: str | None = None,
    ) -> "Basis":
        """Compute A for the named linear layers of a base model.

        Arguments
        ---------
        model : torch.nn.Module
            The base model, before adapters are inserted.
        layers : iterable of str
            Names of its linear layers.
        rank : int
            Rows of each A.
        strategy : str
            "interleave", "block" or "greedy".
        base_fingerprint : str
            Where it is known already; computed from ``model`` otherwise.

        Returns
        -------
        Basis

        Raises
        ------
        ValueError
            If a layer cannot have this rank or is damaged; it is named.
        """
        down_projections, load_ratios = {}, {}
        for name in tqdm(list(layers), desc="Singular vectors", unit="layer"):
            weight = model.get_submodule(name).weight
            try:
                rows, ratio = _sum_basis(weight, rank, strategy)
            except ValueError as error:
                raise ValueError(f"Layer {name}: {error}") from error
            down_projections[name] = rows.float()
            load_ratios[name] = round(ratio, 6)
        if base_fingerprint is None:
            base_fingerprint = fingerprint_weights(model)
        basis = cls(down_projections, rank, strategy, base_fingerprint, load_ratios)
        logger.info(
            "Basis: %d layers, rank %d, %s; largest row load over its lower "
            "bound: mean %.4f, at most %.4f",
            len(down_projections),
            rank,
            strategy,
            np.mean(list(load_ratios.values())),
            max(load_ratios.values()),
        )
        return basis

    def save(self, path: str | Path) -> None:
        """Write the basis to a safetensors file, all or nothing.

        Arguments
        ---------
        path : str or Path
            The file to write.
        """
        metadata = {
            "format": FORMAT,
            "rank": str(self.rank),
            "strategy": self.strategy,
            "base_fingerprint": self.base_fingerprint,
            "fingerprint": self.fingerprint,
            "load_ratios": json.dumps(self.load_ratios),
        }
        with replacing(path) as partial:
            # save_file would make a file that only its owner can read.
            partial.write_bytes(save(self.down_projections, metadata))

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
                rows = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise BasisError(f"{path} cannot be read as a basis: {error}") from error
        if metadata.get("format") != FORMAT:
            raise BasisError(
                f"{path} is not a basis of this version: expected format "
                f"{FORMAT!r}, found {metadata.get('format')!r}."
            )
        basis = cls(
            rows,
            int(metadata["rank"]),
            metadata["strategy"],
            metadata["base_fingerprint"],
            json.loads(metadata["load_ratios"]),
        )
        if basis.fingerprint != metadata["fingerprint"]:
            raise BasisError(
                f"{path} is damaged: its contents have the fingerprint "
                f"{basis.fingerprint[:12]}, its metadata says "
                f"{metadata['fingerprint'][:12]}. Delete it; it will be "
                "computed again."
            )
        return basis


def stored_basis(
    model: nn.Module,
    layers: Iterable[str],
    rank: int,
    strategy: str,
    folder: str | Path,
    base_fingerprint: str | None = None,
) -> tuple[Basis, Path]:
    """The basis of a base model: read if it is stored, else built and stored.

    Arguments
    ---------
    model : torch.nn.Module
        The base model, before adapters are inserted.
    layers : iterable of str
        Names of the adapted layers.
    rank : int
        Rows of each A.
    strategy : str
        "interleave", "block" or "greedy".
    folder : str or Path
        Where bases are kept. The file's name says base model, strategy and
        rank.
    base_fingerprint : str
        Where it is known already; computed from ``model`` otherwise.

    Returns
    -------
    basis : Basis
    path : Path
        Its file.

    Raises
    ------
    BasisError
        If the stored file is damaged, or lacks some of the layers.
    ValueError
        If rank or strategy is unusable.
    """
    layers = list(layers)
    if base_fingerprint is None:
        base_fingerprint = fingerprint_weights(model)
    path = Path(folder) / f"{base_fingerprint[:12]}_{strategy}_r{rank}.safetensors"
    if not path.exists():
        basis = Basis.build(model, layers, rank, strategy, base_fingerprint)
        basis.save(path)
        return basis, path
    basis = Basis.load(path)
    if set(basis.down_projections) != set(layers):
        raise BasisError(
            f"{path} holds {len(basis.down_projections)} layers, this model "
            f"adapts {len(layers)}: another choice of target_layers. Name "
            "another basis folder."
        )
    return basis, path
