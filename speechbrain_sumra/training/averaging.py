"""Model averaging: many models, each on its own slice of singular vectors.

SumRA sums slices of singular vectors into one A before training; the paper's
section 4 says what that stands for: a model for each slice, their weight
updates averaged after training.  This is that average.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import AdapterFileError, read_adapter

UP_PROJECTION = ".adapter_up_proj.weight"


def load_average(files: Sequence[str | Path], model: AdaptedWhisper) -> None:
    """Put the average of K models into one of K times their rank.

    ``dW = (1 / K) sum_k B_k A_k``, where A_k are the singular vectors of slice
    k. That is ``B A`` with all the A_k below each other, which is the A of
    "slice:0" at rank K r, and the B_k / K beside each other. Norms and the
    language token are averaged.

    Arguments
    ---------
    files : sequence of str or Path
        Adapter files of SumRA at rank r, of slices 0 ... K-1 in this order.
    model : AdaptedWhisper
        SumRA with strategy "slice:0" and rank K r, alpha K times theirs.

    Raises
    ------
    AdapterFileError
        If a file is not such an adapter, or of another base model; nothing is
        changed then.
    """
    here = model.adapters.settings
    number = len(files)
    expected = {
        "method": model.adapters.name,
        "base_fingerprint": model.base_fingerprint,
        "language": model.language_setting,
        "rank": here["rank"] // number,
        "alpha": here["alpha"] / number,
        "row_norm": here["row_norm"],
        "train_down_proj": False,
    }
    tensors = []
    for k, path in enumerate(files):
        metadata, of_file = read_adapter(path)
        for key, value in {**expected, "strategy": f"slice:{k}"}.items():
            if metadata.get(key) != value:
                raise AdapterFileError(
                    f"{path} cannot be averaged as number {k} of {number}: its "
                    f"{key} is {metadata.get(key)!r}, expected {value!r}."
                )
        tensors.append(of_file)
    parameters = trained_tensors(model)
    if any(of_file.keys() != parameters.keys() for of_file in tensors):
        raise AdapterFileError(
            "The files and the model do not train the same layers. Was "
            "train_norms different?"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            values = [of_file[name] for of_file in tensors]
            if name.endswith(UP_PROJECTION):
                parameter.copy_(torch.cat(values, dim=1) / number)
            else:
                parameter.copy_(torch.stack(values).mean(dim=0))
