"""``summary.json``: what a run was, what it cost and what it reached."""

import json
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from speechbrain_sumra.adapted import AdaptedWhisper, count_parameters
from speechbrain_sumra.adapter_file import describe
from speechbrain_sumra.files import write_text
from speechbrain_sumra.history import History

PACKAGES = ("speechbrain-sumra", "speechbrain", "torch", "transformers", "peft")


def peak_memory_bytes() -> int:
    """Most memory this process has held so far.

    Returns
    -------
    int
        Bytes allocated on the GPU if one was used, else resident in memory.

    Example
    -------
    >>> peak_memory_bytes() > 0
    True
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that shape a result.

    Example
    -------
    >>> sorted(set(versions()) - {"peft"})
    ['python', 'speechbrain', 'speechbrain-sumra', 'torch', 'transformers']
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_summary(
    path: str | Path,
    model: AdaptedWhisper,
    adapter_file: str | Path,
    history: History,
    before: dict | None,
    after: dict,
    **facts,
) -> dict:
    """Write the summary of a finished run.

    Arguments
    ---------
    path : str or Path
        The JSON file to write.
    model : AdaptedWhisper
        The adapted model.
    adapter_file : str or Path or None
        The file of the language; its size is reported. None if nothing was
        trained.
    history : History
        Records and seconds of the run.
    before, after : dict
        Test "loss", "WER" and "CER" of the unadapted model, if it was scored,
        and of the adapted one.
    **facts
        More to report, e.g. locale, seed, data hash.

    Returns
    -------
    dict
        What was written. Error rates are in percent, memory in bytes, time
        in seconds.
    """
    parameters = count_parameters(model)
    description = describe(model)
    for bulky in ("layers", "language", "settings"):
        del description[bulky]
    shared = model.basis is not None and model.basis_is_shared
    summary = {
        "test_wer": round(after["WER"], 4),
        "test_cer": round(after["CER"], 4),
        "test_loss": round(after["loss"], 6),
        "test_wer_before": round(before["WER"], 4) if before else None,
        "test_cer_before": round(before["CER"], 4) if before else None,
        "best_valid_wer": min((r["WER"] for r in history.records), default=None),
        "trained_parameters": parameters["trained"],
        "total_parameters": parameters["total"],
        "adapter_bytes": Path(adapter_file).stat().st_size if adapter_file else 0,
        "shared_bytes": model.basis.nbytes if shared else 0,
        "adapter": description,
        "largest_basis_figures": model.basis.largest_figures() if model.basis else {},
        "seconds": {k: round(v, 2) for k, v in history.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "validations": history.records,
        "versions": versions(),
        **facts,
    }
    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary
