"""Start a new language from the mean of others instead of from zero."""

from collections.abc import Mapping
from pathlib import Path

import torch

from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import AdapterFileError, describe, read_adapter
from speechbrain_sumra.adapter_folder import find_adapters
from speechbrain_sumra.bank.mixing import mix_languages

# A new language has a prompt of its own.
MAY_DIFFER = ("language", "encoder_context")


def warm_start(
    model: AdaptedWhisper, sources: str | Path | Mapping[str, float]
) -> dict[str, float]:
    """Put the weighted mean of other languages' adapters into a model.

    ``B = sum_i w_i B_i / sum_i w_i``, and the norms likewise: possible because the
    languages share A. A single adapter may also be of a method where each language
    has an A of its own, such as LoRA. The language token is kept as it is, unless
    the other languages trained one, too.

    Arguments
    ---------
    model : AdaptedWhisper
        The model, not yet trained.
    sources : str or Path or mapping of str to float
        An adapter file; a folder, of all adapters in which the plain mean is taken;
        or weights by adapter file.

    Returns
    -------
    dict of str to float
        The weight of each file; their sum is 1.

    Raises
    ------
    AdapterFileError
        If there is no adapter, or one does not fit the model; nothing is changed
        then.
    ValueError
        If the weights are not numbers with a sum above 0.
    """
    weights = _weights(sources)
    files = {path: read_adapter(path) for path in weights}
    for path, (metadata, _) in files.items():
        for key, here in describe(model).items():
            if key not in MAY_DIFFER and metadata.get(key) != here:
                raise AdapterFileError(
                    f"Cannot start from {path}: its {key.replace('_', ' ')} is "
                    f"{metadata.get(key)!r}, the model's is {here!r}."
                )
    parameters = trained_tensors(model)
    # They may have trained more, such as a language token.
    files = {
        path: (metadata, {k: v for k, v in tensors.items() if k in parameters})
        for path, (metadata, tensors) in files.items()
    }
    if len(files) == 1:
        ((_, tensors),) = files.values()
    else:
        start = {name: value.detach().cpu() for name, value in parameters.items()}
        _, tensors = mix_languages(files, weights, start.__getitem__, MAY_DIFFER)
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)
    return weights


def _weights(sources) -> dict[str, float]:
    """Weights by file, with a sum of 1."""
    if isinstance(sources, Mapping):
        weights = dict(sources)
    elif Path(sources).is_dir():
        weights = {str(path): 1.0 for path in find_adapters(sources).values()}
    else:
        weights = {str(sources): 1.0}
    try:
        total = sum(weights.values())
    except TypeError:
        total = 0
    if not total > 0:
        raise ValueError(
            "Expected an adapter file, a folder of adapters, or {file: weight, ...} "
            f"with weights whose sum is above 0, got {sources!r}."
        )
    return {path: weight / total for path, weight in weights.items()}
