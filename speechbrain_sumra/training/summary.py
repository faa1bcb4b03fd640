"""``summary.json``: what a run was, what it cost and what it reached."""

import json
import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from speechbrain_sumra.adapted import AdaptedWhisper, count_parameters
from speechbrain_sumra.adapter_file import describe
from speechbrain_sumra.files import write_text
from speechbrain_sumra.training.history import History

NUMBERS = re.compile(r"\[[\s\d,]+\]")
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
        What ``ASR.score`` returned for the unadapted model, or None, and for the
        adapted one; nothing if it was not scored.
    **facts
        More to report, e.g. locale, seed, data hash.

    Returns
    -------
    dict
        What was written. Error rates are in percent, memory in bytes, time
        in seconds. "test_errors" and "test_words" are the word edits and words of
        the test utterances in order of their ids, so that runs can be compared
        utterance by utterance. What was not measured is None.
    """
    parameters = count_parameters(model)
    description = describe(model)
    for bulky in ("layers", "language", "settings"):
        del description[bulky]
    shared = model.basis is not None and model.basis_is_shared
    summary = {
        "test_wer": _rounded(after, "WER"),
        "test_cer": _rounded(after, "CER"),
        "test_loss": _rounded(after, "loss"),
        "test_wer_before": _rounded(before, "WER"),
        "test_cer_before": _rounded(before, "CER"),
        "best_valid_wer": _lowest(history, "WER"),
        "best_valid_loss": _lowest(history, "valid_loss"),
        "test_errors": list(after["errors"].values()) if after else None,
        "test_words": list(after["words"].values()) if after else None,
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
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    # A number a line would make long files of these lists.
    text = NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
    write_text(path, text + "\n")
    return summary


def _rounded(scores: dict | None, name: str) -> float | None:
    return round(scores[name], 6) if scores else None


def _lowest(history: History, name: str) -> float | None:
    return min((r[name] for r in history.records if name in r), default=None)
