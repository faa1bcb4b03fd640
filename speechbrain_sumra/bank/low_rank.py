"""What an adapter file adds to the base model, as matrices of low rank."""

import math
from dataclasses import dataclass, field

import torch

from speechbrain_sumra.adapter_file import AdapterFileError

UP, DOWN = ".adapter_up_proj.weight", ".adapter_down_proj.weight"
LORA_UP, LORA_DOWN = ".lora_B.default.weight", ".lora_A.default.weight"
NEW_TOKEN = "model.decoder.embed_tokens.new_token.weight"

# Why a method's files cannot share one base model with others.
REFUSED = {
    None: "full fine-tuning changes every weight of the decoder",
    "SORSA": "it replaces the base weights by what is left of them",
    "AdaLora": "its rank differs from layer to layer",
    "Vera": "it scales matrices that are not its layers' own",
}
REPLACES_BASE = ("pissa", "olora", "corda", "lora_ga", "mica")
# Settings of LoRA with which ``W0 + (alpha / r) B A`` is what it does.
LORA_SETTINGS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "init_lora_weights",
    "frozen",
    "row_norm",
)
ADVICE = "Load it by itself (load_adapted), or export it merged."


@dataclass
class LowRank:
    """One language: ``W0 + up^T down`` in each layer, and norms of its own.

    Attributes
    ----------
    up : dict of str to torch.Tensor
        By layer, B scaled and transposed, shape (r, d).
    down : dict of str to torch.Tensor
        By layer, A, shape (r, k), where it is not that of the basis.
    norms : dict of str to torch.Tensor
        Weights and biases of layer norms by parameter name, shape (width,).
    new_token : torch.Tensor or None
        Embedding of the language's own token, shape (width,).
    """

    up: dict[str, torch.Tensor] = field(default_factory=dict)
    down: dict[str, torch.Tensor] = field(default_factory=dict)
    norms: dict[str, torch.Tensor] = field(default_factory=dict)
    new_token: torch.Tensor | None = None


def has_own_down(metadata: dict) -> bool:
    """Whether a file's A is its own instead of one that all languages share.

    Arguments
    ---------
    metadata : dict
        What ``read_metadata`` returned.

    Raises
    ------
    AdapterFileError
        If the method cannot share a base model with others at all, or not with
        these settings.

    Example
    -------
    >>> has_own_down({"method": "Lora"})
    True
    >>> has_own_down({"method": "SumRA", "train_down_proj": False})
    False
    """
    method = metadata["method"]
    if method == "SumRA":
        return metadata["train_down_proj"]
    reason = REFUSED.get(method, "it is not known here")
    if method == "Lora":
        start = metadata.get("init_lora_weights")
        replaces = isinstance(start, str) and start.startswith(REPLACES_BASE)
        if metadata.get("use_dora"):
            method, reason = "DoRA", "it rescales every output of the base weights"
        elif replaces:
            method, reason = start, REFUSED["SORSA"]
        else:
            _check_lora_settings(metadata)
            return True
    raise AdapterFileError(
        f"An adapter of {method or 'no method'} cannot be used beside others in one "
        f"model: {reason}. {ADVICE}"
    )


def _check_lora_settings(metadata: dict) -> None:
    for name in metadata.get("settings", ()):
        # What is off, or PEFT's default, changes nothing.
        if name not in LORA_SETTINGS and metadata[name] and metadata[name] != "none":
            raise AdapterFileError(
                f"An adapter of Lora with {name}={str(metadata[name])[:40]} cannot be "
                f"used beside others in one model. {ADVICE}"
            )


def low_rank(
    metadata: dict, tensors: dict[str, torch.Tensor], basis: dict[str, torch.Tensor]
) -> LowRank:
    """Sort the tensors of a file by what they are for.

    Arguments
    ---------
    metadata, tensors : dict
        What ``read_adapter`` returned.
    basis : dict of str to torch.Tensor
        Tensors of the file's basis; LoRA-FA's A is there.

    Returns
    -------
    LowRank

    Raises
    ------
    AdapterFileError
        If the method cannot be used beside others, a tensor is none of those
        that it trains, or not of the rank that the file names.
    """
    own_down = has_own_down(metadata)
    rank = _rank(metadata)
    language, scaling = LowRank(), _scaling(metadata, rank)
    both = {**basis, **tensors} if own_down else tensors
    for name, value in both.items():
        if name.endswith((UP, LORA_UP)):
            layer = name.removesuffix(UP).removesuffix(LORA_UP)
            _check_rank(name, value.shape[1:], rank)
            language.up[layer] = scaling * value.T
        elif name.endswith((DOWN, LORA_DOWN)):
            layer = name.removesuffix(DOWN).removesuffix(LORA_DOWN)
            _check_rank(name, value.shape[:1], rank)
            language.down[layer] = value
        elif name == NEW_TOKEN:
            language.new_token = value[0]
        elif "layer_norm." in name:
            language.norms[name] = value
        elif name in tensors:
            raise AdapterFileError(
                f"{name} is trained, which cannot differ from row to row of a batch. "
                f"{ADVICE}"
            )
    return language


def _rank(metadata: dict) -> int:
    rank = metadata["rank"] if metadata["method"] == "SumRA" else metadata.get("r", 8)
    if type(rank) is not int or rank < 1:
        raise AdapterFileError(
            f"its rank is {str(rank)[:20]}: expected a whole number, at least 1."
        )
    return rank


def _check_rank(name: str, found: tuple[int, ...], rank: int) -> None:
    if tuple(found) != (rank,):
        raise AdapterFileError(
            f"{name} is of rank {', '.join(map(str, found))}, the file says "
            f"{str(rank)[:20]}. It is damaged or was altered: take another copy."
        )


def _scaling(metadata: dict, rank: int) -> float:
    if metadata["method"] == "SumRA":
        return metadata["alpha"] / rank
    alpha = metadata.get("lora_alpha", 8)
    return alpha / (math.sqrt(rank) if metadata.get("use_rslora") else rank)
