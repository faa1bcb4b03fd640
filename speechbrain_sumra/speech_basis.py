"""A from speech of other languages, beside the base model's weights.

The paper sums singular vectors of a weight without knowing what the layer reads.
Speech says that. As long as it is speech of other languages than those that are
adapted to, A stays the same for all of them, and can be shared as before.

Statistics of a layer are a matrix of its inputs' width: either the mean of
``x x^T`` over what it reads, or that of ``G^T G`` over the gradients of its weight.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from speechbrain_sumra.allocation import check_rank, interleave
from speechbrain_sumra.basis import Basis, fix_signs, normalize_rows

Statistics = dict[str, torch.Tensor]


def principal_directions(
    weight: torch.Tensor, statistics: torch.Tensor, rank: int
) -> torch.Tensor:
    """The r eigenvectors of largest eigenvalue, one a row.

    Of ``mean x x^T``: the directions in which the inputs are largest; of all A with
    orthonormal rows, this one loses least of them. Of ``mean G^T G``: of all such A,
    the one with which B has the largest gradients, ``dL/dB = G A^T``.

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k); only its shape matters.
    statistics : torch.Tensor
        Symmetric, shape (k, k).
    rank : int
        Rows of A, 1 <= rank <= min(d, k).

    Returns
    -------
    torch.Tensor
        A, shape (rank, k), float64, orthonormal rows.

    Example
    -------
    >>> statistics = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    >>> principal_directions(torch.ones(4, 3), statistics, 2).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    del weight
    _, vectors = torch.linalg.eigh(statistics.double())
    return fix_signs(vectors.T.flip(0)[:rank])


def summed_directions(
    weight: torch.Tensor, statistics: torch.Tensor, rank: int
) -> torch.Tensor:
    """SumRA's sums (eq. 10), of the singular vectors of ``W0 C`` as in CorDA (eq. 7).

    ``a_i = sum over j in S_i of sqrt(s_j) v_j`` with interleaved S_i, where C is
    scaled to a mean eigenvalue of 1. Unlike CorDA's, the vectors are not divided by
    C again: B starts at zero, so nothing of W0 has to be rebuilt from them.

    Arguments
    ---------
    weight : torch.Tensor
        W0, shape (d, k).
    statistics : torch.Tensor
        C, the mean of ``x x^T``, shape (k, k).
    rank : int
        Rows of A, 1 <= rank <= min(d, k).

    Returns
    -------
    torch.Tensor
        A, shape (rank, k), float64, orthogonal rows.

    Example
    -------
    >>> weight = torch.diag(torch.tensor([1.0, 2.0]))
    >>> summed_directions(weight, torch.eye(2), 2).square().round(decimals=6).tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    covariance = statistics.double() / statistics.double().diagonal().mean()
    _, values, right = torch.linalg.svd(
        weight.double() @ covariance, full_matrices=False
    )
    scaled = values.sqrt()[:, None] * fix_signs(right)
    index_sets = interleave(values.numpy(), rank)
    return torch.stack([scaled[indices].sum(dim=0) for indices in index_sets])


@contextmanager
def _watching_inputs(
    layers: dict[str, nn.Linear], statistics: Statistics
) -> Iterator[None]:
    """Add ``x x^T`` of all that the layers read."""

    def hook(name):
        def add(_, args):
            x = args[0].detach().reshape(-1, args[0].shape[-1]).float()
            statistics[name].addmm_(x.T, x)

        return add

    handles = [
        layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def mean_inputs(model: nn.Module, layers: list[str], losses: Iterable) -> Statistics:
    """Mean of ``x x^T`` over the inputs of each layer.

    Arguments
    ---------
    model : torch.nn.Module
        The base model.
    layers : list of str
        Names of its linear layers.
    losses : iterable of torch.Tensor
        Each item runs the model on some speech. Utterances should come one by one:
        padding would be counted.

    Returns
    -------
    dict of str to torch.Tensor
        Shape (k, k), float32, scaled to a mean eigenvalue of 1, for each layer.
    """
    linears = {name: model.get_submodule(name) for name in layers}
    statistics = _zeros(linears)
    with torch.no_grad(), _watching_inputs(linears, statistics):
        for _ in losses:
            pass
    return {name: value / value.diagonal().mean() for name, value in statistics.items()}


def mean_gradients(model: nn.Module, layers: list[str], losses: Iterable) -> Statistics:
    """Mean of ``G^T G`` over the gradients of each layer's weight, one a loss.

    Arguments
    ---------
    model, layers, losses
        As for ``mean_inputs``. Each loss weighs the same, whatever its length.

    Returns
    -------
    dict of str to torch.Tensor
        Shape (k, k), float32, scaled to a mean eigenvalue of 1, for each layer.
    """
    linears = {name: model.get_submodule(name) for name in layers}
    weights = {name: layer.weight for name, layer in linears.items()}
    statistics = _zeros(linears)
    trained = {name: weight.requires_grad for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        for loss in losses:
            gradients = torch.autograd.grad(loss, list(weights.values()))
            for name, gradient in zip(weights, gradients, strict=True):
                statistics[name].addmm_(gradient.T, gradient)
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(trained[name])
    return {name: value / value.diagonal().mean() for name, value in statistics.items()}


def _zeros(linears: dict[str, nn.Linear]) -> Statistics:
    return {
        name: layer.weight.new_zeros(layer.in_features, layer.in_features)
        for name, layer in linears.items()
    }


# What is measured in the layers, and what A is made of it.
STRATEGIES: dict[str, tuple[Callable, Callable]] = {
    "inputs": (mean_inputs, principal_directions),
    "gradients": (mean_gradients, principal_directions),
    "corda": (mean_inputs, summed_directions),
}
LEARNED = "learned"  # A of a model that was trained on other languages


def needs_speech(strategy: str | None) -> bool:
    """Whether the basis of a strategy is made from speech.

    Arguments
    ---------
    strategy : str
        Of SumRA; other methods have none.

    Example
    -------
    >>> needs_speech("inputs"), needs_speech("interleave"), needs_speech(None)
    (True, False, False)
    """
    return strategy in (*STRATEGIES, LEARNED)


def check_needs_no_speech(strategy: str) -> None:
    """Refuse to compute from a weight what is made from speech.

    Arguments
    ---------
    strategy : str
        Of SumRA.

    Raises
    ------
    ValueError
        If it looks at speech; it says how such a basis is made.

    Example
    -------
    >>> check_needs_no_speech("interleave")
    """
    if needs_speech(strategy):
        raise ValueError(
            f"The basis of strategy {strategy!r} is made from speech of other "
            "languages, once for a base model and rank, and none is stored in the "
            "basis folder. Make it with recipes/CommonVoice/make_basis.py, or copy "
            "the one that others use."
        )


def make_speech_basis(
    model: nn.Module, description: dict, losses: Iterable[torch.Tensor]
) -> Basis:
    """The basis of a strategy that looks at speech.

    Arguments
    ---------
    model : torch.nn.Module
        The base model, without adapters.
    description : dict
        What the basis is made from, as ``AdaptedWhisper.describe_basis`` says:
        layers, and settings with rank, strategy ("inputs", "gradients", "corda")
        and row_norm.
    losses : iterable of torch.Tensor
        Each item is the loss on some speech of other languages, computed when it is
        asked for.

    Returns
    -------
    Basis
        A of each layer.

    Raises
    ------
    ValueError
        If the strategy is not one of these, or the rank too large for a layer.
    """
    settings, layers = description["settings"], description["layers"]
    if settings["strategy"] not in STRATEGIES:
        raise ValueError(
            f"Strategy {settings['strategy']!r} is not made from speech; expected one "
            f"of {', '.join(STRATEGIES)}."
        )
    measure, rows_of = STRATEGIES[settings["strategy"]]
    weights = {name: model.get_submodule(name).weight for name in layers}
    for weight in weights.values():
        check_rank(settings["rank"], min(weight.shape))
    statistics = measure(model, layers, losses)
    tensors = {}
    for name, weight in tqdm(weights.items(), desc="Basis", unit="layer"):
        rows = rows_of(weight.detach().cpu(), statistics[name].cpu(), settings["rank"])
        rows = normalize_rows(rows, settings["row_norm"])
        tensors[f"{name}.down_proj"] = rows.float().contiguous()
    return Basis(tensors, description)


def start_file(basis_file: str | Path) -> Path:
    """Where the B is that was learned together with the A of a basis.

    Example
    -------
    >>> start_file("basis/0123.safetensors").name
    '0123_start.safetensors'
    """
    basis_file = Path(basis_file)
    return basis_file.with_name(f"{basis_file.stem}_start.safetensors")


def share_down_projections(
    metadata: dict, tensors: dict[str, torch.Tensor]
) -> tuple[Basis, dict, dict[str, torch.Tensor]]:
    """Turn the trained A of an adapter into a basis that all languages can use.

    Arguments
    ---------
    metadata, tensors
        Of an adapter file of SumRA with ``train_down_proj: True``, as
        ``read_adapter`` gives them: trained on several languages together, none of
        which is to be adapted to.

    Returns
    -------
    basis : Basis
        Its A's, with strategy "learned".
    metadata, tensors
        The same adapter on this basis: B, norms and token, from which other
        languages can be warm started.

    Raises
    ------
    ValueError
        If the adapter has no trained A.

    Example
    -------
    >>> metadata = {
    ...     "method": "SumRA", "train_down_proj": True, "layers": ["fc1"], "rank": 2,
    ...     "base_fingerprint": "0123", "row_norm": "raw",
    ... }
    >>> tensors = {
    ...     "fc1.adapter_down_proj.weight": torch.ones(2, 3),
    ...     "fc1.adapter_up_proj.weight": torch.zeros(4, 2),
    ... }
    >>> basis, metadata, tensors = share_down_projections(metadata, tensors)
    >>> list(basis.tensors), list(tensors), metadata["strategy"]
    (['fc1.down_proj'], ['fc1.adapter_up_proj.weight'], 'learned')
    """
    if metadata.get("method") != "SumRA" or not metadata.get("train_down_proj"):
        raise ValueError(
            "Expected an adapter with a trained A (hparams/sumra_train_a_*.yaml), "
            f"found one of {metadata.get('method')} with train_down_proj: "
            f"{metadata.get('train_down_proj')}."
        )
    ending = ".adapter_down_proj.weight"
    description = {
        "base_fingerprint": metadata["base_fingerprint"],
        "method": metadata["method"],
        "settings": {
            "rank": metadata["rank"],
            "strategy": LEARNED,
            "row_norm": metadata["row_norm"],
        },
        "layers": sorted(metadata["layers"]),
    }
    basis = Basis(
        {
            f"{name.removesuffix(ending)}.down_proj": value.float().contiguous()
            for name, value in tensors.items()
            if name.endswith(ending)
        },
        description,
        made_from={"locales": str(metadata.get("locale")).split("+")},
    )
    others = {k: v for k, v in tensors.items() if not k.endswith(ending)}
    shared = {
        **metadata,
        "strategy": LEARNED,
        "train_down_proj": False,
        "basis_fingerprint": basis.fingerprint,
    }
    return basis, shared, others
