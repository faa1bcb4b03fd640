"""The file of one language: what was trained, and on what.

A safetensors file with what was trained: SumRA's B, the norms and, where
used, the row of the language token.  Its metadata names the base weights and
the basis by fingerprint; on others, B means nothing, so loading it there is an
error.  A basis that was made from the language's own data (CorDA) is in the
file.  A checksum over all of it finds damage.
"""

import copy
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.files import replacing
from speechbrain_sumra.storage import SCALE, decode, encode

FORMAT = "sumra-adapter-4"
BASIS = "basis:"  # starts the names of the tensors of a basis in the file


class AdapterFileError(ValueError):
    """An adapter file that is damaged or belongs to another model."""


def describe(model: AdaptedWhisper) -> dict:
    """What an adapter of this model depends on.

    Arguments
    ---------
    model : AdaptedWhisper
        An adapted Whisper.

    Returns
    -------
    dict
        Method, its settings and their names, the adapted layers and how many of
        the encoder's are among them, the choices of language and encoder context,
        and the fingerprints of base model and basis (None without a basis).
    """
    method = model.adapters
    has_basis = model.basis is not None and model.basis.tensors
    return {
        "method": None if method is None else method.name,
        "settings": [] if method is None else sorted(method.settings),
        **({} if method is None else method.settings),
        "layers": sorted(model.replace_layers),
        "language": getattr(model, "language_setting", None),
        "encoder_context": getattr(model, "encoder_context", None),
        "adapted_encoder_layers": getattr(model, "adapted_encoder_layers", 0),
        "base_fingerprint": model.base_fingerprint,
        "basis_fingerprint": model.basis.fingerprint if has_basis else None,
    }


def save_adapter(
    path: str | Path, model: AdaptedWhisper, storage: str = "fp32", **facts
) -> None:
    """Write what was trained to one file, all or nothing.

    Arguments
    ---------
    path : str or Path
        The file to write, by convention ``*.safetensors``.
    model : AdaptedWhisper
        The trained model.
    storage : str
        "fp32" (default), "fp16" or "int8"; see ``storage.encode``.
    **facts
        More metadata that JSON can hold: locale, WER, versions, ...
    """
    tensors = dict(trained_tensors(model))
    if not model.basis_is_shared:
        tensors |= {BASIS + name: value for name, value in model.basis.tensors.items()}
    write_adapter(path, {**facts, **describe(model)}, tensors, storage)


def write_adapter(
    path: str | Path, metadata: dict, tensors: dict[str, torch.Tensor], storage: str
) -> None:
    """Write an adapter file from what ``read_adapter`` gives, all or nothing.

    Arguments
    ---------
    path : str or Path
        The file to write.
    metadata : dict
        What ``describe`` gives, and facts.
    tensors : dict of str to torch.Tensor
        The trained tensors by name, and those of a basis of the language's own.
    storage : str
        "fp32", "fp16" or "int8".
    """
    tensors = {name: value.detach().cpu() for name, value in tensors.items()}
    text = json.dumps({**metadata, "storage": storage}, ensure_ascii=False)
    stored = encode(tensors, storage)
    header = {"format": FORMAT, "adapter": text, "crc32": _checksum(text, stored)}
    with replacing(path) as partial:
        # save_file would make a file that only its owner can read.
        partial.write_bytes(save(stored, header))


def read_metadata(path: str | Path) -> dict:
    """What an adapter file says of itself.

    Arguments
    ---------
    path : str or Path
        A file written by ``save_adapter``.

    Returns
    -------
    dict
        The metadata: what ``describe`` gives, and the facts.

    Raises
    ------
    AdapterFileError
        If the file is not an adapter file, or damaged.
    """
    with _opened(path) as (metadata, _):
        return metadata


def read_adapter(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Metadata and tensors of an adapter file, not yet put into any model.

    Arguments
    ---------
    path : str or Path
        A file written by ``save_adapter``.

    Returns
    -------
    metadata : dict
        What ``describe`` gives, and the facts.
    tensors : dict of str to torch.Tensor
        The trained tensors by name, and those of a basis of the language's
        own, whose names start with ``BASIS``.

    Raises
    ------
    AdapterFileError
        If the file is not an adapter file, or damaged.
    """
    with _opened(path) as (metadata, file):
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        header = file.metadata()
    if header.get("crc32") != _checksum(header["adapter"], tensors):
        raise AdapterFileError(
            f"{path} is damaged: its checksum is wrong. Take another copy of it."
        )
    return metadata, decode(tensors)


def read_shapes(path: str | Path) -> tuple[dict, dict[str, tuple[int, ...]]]:
    """Metadata of an adapter file and the shapes of its tensors, which stay unread.

    Arguments
    ---------
    path : str or Path
        A file written by ``save_adapter``.

    Returns
    -------
    metadata : dict
        What ``describe`` gives, and the facts.
    shapes : dict of str to tuple of int
        By name, as in ``read_adapter``.

    Raises
    ------
    AdapterFileError
        If the file is not an adapter file, or damaged.
    """
    with _opened(path) as (metadata, file):
        shapes = {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()
            if not name.endswith(SCALE)
        }
    return metadata, shapes


def _checksum(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """CRC-32 of the metadata and of names, types, shapes and bytes of the tensors."""
    checksum = zlib.crc32(text.encode())
    for name, value in sorted(tensors.items()):
        what = f"{name}{value.dtype}{tuple(value.shape)}"
        checksum = zlib.crc32(what.encode(), checksum)
        checksum = zlib.crc32(value.flatten().view(torch.uint8).numpy(), checksum)
    return str(checksum)


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[dict, safe_open]]:
    """Metadata and the memory-mapped file; what is unreadable is one clear error."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise AdapterFileError(
                    f"{path} is not an adapter file of this version: expected format "
                    f"{FORMAT!r}, found {header.get('format')!r}."
                )
            try:
                metadata = json.loads(header["adapter"])
            except (KeyError, ValueError, RecursionError) as error:
                raise AdapterFileError(
                    f"{path}: unreadable metadata: {error}"
                ) from error
            _check_metadata(path, metadata)
            yield metadata, file
    except (SafetensorError, OSError) as error:
        raise AdapterFileError(
            f"{path} cannot be read as an adapter file: {error}"
        ) from error


def _check_metadata(path: str | Path, metadata) -> None:
    """Whether everything is there that others rely on, and of the right kind."""
    if not isinstance(metadata, dict):
        raise AdapterFileError(f"{path}: its metadata is {_short(metadata)}.")
    metadata.setdefault("adapted_encoder_layers", 0)  # earlier files adapt none
    for name, kinds in _KINDS.items():
        value = metadata.get(name)
        if not isinstance(value, kinds) or (kinds is list and not _all_text(value)):
            raise AdapterFileError(
                f"{path}: wrong or missing metadata: {name} is {_short(value)}. Was "
                "it written by another version?"
            )
    needed = [*_NEEDED, *metadata["settings"]]
    missing = [name for name in needed if name not in metadata]
    if missing:
        raise AdapterFileError(
            f"{path}: its metadata has no {', '.join(missing[:3])}. Was it written by "
            "another version?"
        )


def _all_text(values: list) -> bool:
    return all(isinstance(value, str) for value in values)


_OPTIONAL_TEXT = (str, type(None))
_KINDS = {
    "method": _OPTIONAL_TEXT,
    "settings": list,
    "layers": list,
    "language": _OPTIONAL_TEXT,
    "encoder_context": _OPTIONAL_TEXT,
    "adapted_encoder_layers": int,
    "base_fingerprint": str,
    "basis_fingerprint": _OPTIONAL_TEXT,
    "locale": _OPTIONAL_TEXT,
    "base_model": _OPTIONAL_TEXT,
    "test_wer": (int, float, type(None)),
    "versions": (dict, type(None)),
}
_NEEDED = ("method", "language", "encoder_context", "basis_fingerprint")


def load_adapter(path: str | Path, model: AdaptedWhisper) -> dict:
    """Put the trained tensors of a file into a model with adapters.

    Everything is checked before anything is changed. If the model still
    awaits the data that its adapters are initialised from, they are made
    from the basis in the file instead.

    Arguments
    ---------
    path : str or Path
        A file written by ``save_adapter``.
    model : AdaptedWhisper
        A model with the same base, basis, rank and language choice.

    Returns
    -------
    dict
        The file's metadata.

    Raises
    ------
    AdapterFileError
        If the file is damaged, or was trained on another base model, basis
        or setting; the message names both sides.
    """
    metadata, tensors = read_adapter(path)
    basis = {
        name.removeprefix(BASIS): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(BASIS)
    }
    expected = describe(model)
    if model.awaits_data:
        del expected["basis_fingerprint"]
    for key, here in expected.items():
        if metadata.get(key) != here:
            raise AdapterFileError(
                f"{path} does not fit this model: its {_label(key)} is "
                f"{_short(metadata.get(key))}, the model's is {_short(here)}."
                f"{_ADVICE.get(key, '')}"
            )
    start = Basis(basis, model.describe_basis()) if model.awaits_data else None
    parameters = trained_tensors(model)
    if start is not None:
        parameters = _with_basis(path, model, start)
    if tensors.keys() != parameters.keys():
        raise AdapterFileError(
            f"{path} does not fit this model: only in the file "
            f"{sorted(tensors.keys() - parameters.keys())[:3]}, only in the "
            f"model {sorted(parameters.keys() - tensors.keys())[:3]}. Was "
            "train_norms different?"
        )
    for name, value in tensors.items():
        expected = parameters[name].shape
        if value.shape != expected:
            raise AdapterFileError(
                f"{path}: {name} has shape {tuple(value.shape)}, the model "
                f"needs {tuple(expected)}."
            )
    for name, value in (tensors | basis).items():
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise AdapterFileError(
                f"{path}: {name} has values that are not finite numbers; the "
                "file is damaged or its training diverged."
            )
    if start is not None:
        model.insert_adapters(start)
        parameters = trained_tensors(model)
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
    return metadata


def _with_basis(
    path: str | Path, model: AdaptedWhisper, basis: Basis
) -> dict[str, torch.Tensor]:
    """What the model would train with adapters of this basis, without numbers."""
    own = [*model.parameters(), *model.buffers()]
    empty = {id(tensor): _empty(tensor) for tensor in own}
    trial = nn.Module()
    for name, part in model.adapted_model.named_children():
        trial.add_module(name, copy.deepcopy(part, empty))
    start = {name: _empty(value) for name, value in basis.tensors.items()}
    try:
        copy.copy(model.adapters).insert(
            trial, model.replace_layers, Basis(start, basis.description)
        )
    except (KeyError, RuntimeError) as error:
        raise AdapterFileError(
            f"{path} does not fit this model: its basis is of other layers or sizes "
            f"({error})."
        ) from error
    adapters = {name: p for name, p in trial.named_parameters() if p.requires_grad}
    return {**trained_tensors(model), **adapters}


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    """One of the same kind, on the meta device."""
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


_ADVICE = {
    "base_fingerprint": " Load the base model that the file was trained on.",
    "basis_fingerprint": " Use the basis file stored beside the adapter, or "
    "build the model with the same rank and strategy.",
    "language": " Build the model with the same language setting.",
    "encoder_context": " Build the model with the same encoder_context.",
    "adapted_encoder_layers": " Build the model with as many.",
}


def _label(key: str) -> str:
    return key.replace("_", " ")


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
