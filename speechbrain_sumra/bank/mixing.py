"""Weighted sums of languages: their B's are in one space, that of the shared A."""

import math
from collections.abc import Callable, Collection, Iterable

import torch

from speechbrain_sumra.adapter_file import AdapterFileError
from speechbrain_sumra.bank.low_rank import UP, has_own_down

SAME = (
    "base_fingerprint",
    "basis_fingerprint",
    "method",
    "rank",
    "alpha",
    "layers",
    "language",
    "encoder_context",
    "adapted_encoder_layers",
)


def mix_languages(
    sources: dict[str, tuple[dict, dict[str, torch.Tensor]]],
    weights: dict[str, float],
    unadapted: Callable[[str], torch.Tensor],
    may_differ: Collection[str] = (),
) -> tuple[dict, dict[str, torch.Tensor]]:
    """``B = sum_i w_i B_i``: exactly the mixture of the languages' updates.

    Norms and the language token start from the base model's: ``n = n0 + sum_i w_i
    (n_i - n0)``.

    Arguments
    ---------
    sources : dict of str to tuple
        Metadata and tensors of each language, as ``read_adapter`` gives them.
    weights : dict of str to float
        Weight of each.
    unadapted : callable
        The base model's value of a norm or the language token, by its name.
    may_differ : collection of str
        What of ``SAME`` need not be the same after all.

    Returns
    -------
    metadata : dict
        As of an adapter file; "mixed" has the weights. Its locale is
        ``mixture_name``, or of languages with one of Whisper's own tokens
        (language: own) the code of that.
    tensors : dict of str to torch.Tensor
        By name.

    Raises
    ------
    AdapterFileError
        If the languages do not share an A, or a setting or Whisper's own token
        differs.
    ValueError
        If there is none, or a weight is not finite.

    Example
    -------
    >>> facts = {"method": "SumRA", "train_down_proj": False}
    >>> name = "fc1.adapter_up_proj.weight"
    >>> sources = {
    ...     "hsb": (facts, {name: torch.tensor([[2.0]])}),
    ...     "pl": (facts, {name: torch.tensor([[6.0]])}),
    ... }
    >>> metadata, tensors = mix_languages(sources, {"hsb": 0.5, "pl": 0.25}, None)
    >>> metadata["locale"], tensors[name].tolist()
    ('0.5*hsb+0.25*pl', [[2.5]])
    """
    if not weights:
        raise ValueError("Expected at least one language to mix, got none.")
    if not all(map(math.isfinite, weights.values())):
        raise ValueError(f"Expected finite weights, got {weights}.")
    first, *others = weights
    metadata = sources[first][0]
    for name in weights:
        if has_own_down(sources[name][0]):
            raise AdapterFileError(
                f"{name} has an A of its own: only languages that share A can be "
                "mixed (SumRA with train_down_proj: False)."
            )
    for name in others:
        for key in SAME:
            differs = sources[name][0].get(key) != metadata.get(key)
            if differs and key not in may_differ:
                raise AdapterFileError(
                    f"{first} and {name} cannot be mixed: their "
                    f"{key.replace('_', ' ')} differs."
                )
    own_token = metadata.get("language") == "own" and "language" not in may_differ
    locale = _common_code(sources, weights) if own_token else mixture_name(weights)
    mixed = {}
    for key in sorted({key for name in weights for key in sources[name][1]}):
        start = 0.0 if key.endswith(UP) else unadapted(key)
        total = start
        for name, weight in weights.items():
            value = sources[name][1].get(key)
            if value is not None:
                total = total + weight * (value - start)
        mixed[key] = total
    return {**metadata, "locale": locale, "mixed": weights, "test_wer": None}, mixed


def mixture_name(weights: dict[str, float]) -> str:
    """What a mixture is called.

    Example
    -------
    >>> mixture_name({"hsb": 0.5, "pl": 0.25})
    '0.5*hsb+0.25*pl'
    """
    return "+".join(f"{weight:g}*{name}" for name, weight in weights.items())


def _common_code(sources: dict, names: Iterable[str]) -> str:
    """The code of the one token of Whisper's that all languages are said after."""
    codes = {name: str(sources[name][0].get("locale")).split("-")[0] for name in names}
    if len(set(codes.values())) > 1:
        each = ", ".join(f"{name}: {code}" for name, code in codes.items())
        raise AdapterFileError(
            "Languages that were trained with language: own, each after its own "
            f"token of Whisper's, can be mixed if that is the same; here {each}."
        )
    return next(iter(codes.values()))
