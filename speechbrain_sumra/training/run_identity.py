"""What a run is, kept in its folder, so that no two are taken for one."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from speechbrain_sumra.files import write_text
from speechbrain_sumra.training.hparams import (
    HparamsError,
    merge_overrides,
    resolve_settings,
)


def keep_settings(
    path: str | Path,
    overrides: str,
    output_folder: str | Path,
    ignored: tuple[str, ...] = (),
) -> None:
    """Keep an experiment's settings, and refuse to mix two in one folder.

    Writes ``hyperparams.yaml`` (all references and overrides resolved, so it
    can be run again by itself) and ``settings.json`` (its values; of objects that are
    to be built their YAML).  A run that resumes in a folder must have the same: a
    finished run would otherwise be reported as one with other settings.

    Arguments
    ---------
    path : str or Path
        The experiment file.
    overrides : str
        YAML with other values for top-level keys.
    output_folder : str or Path
        The folder of the run; it must exist.
    ignored : tuple of str
        Settings that may differ, because they do not change the result.

    Raises
    ------
    HparamsError
        If the folder holds a run with other settings; they are listed. Or if what
        its settings were cannot be read.
    """
    text, values, _ = resolve_settings(path, overrides)
    # As they would be in no place, for places are in them, too.
    single = {n for n, value in values.items() if not isinstance(value, (dict, list))}
    nowhere = dict.fromkeys(single.intersection(ignored))
    _, _, objects = resolve_settings(path, merge_overrides(overrides, **nowhere))
    folder = Path(output_folder)
    # Runs of earlier versions have kept no objects.
    settings = {**objects, **values}
    _keep(folder / "settings.json", settings, "settings", ignored, new=objects)
    write_text(folder / "hyperparams.yaml", f"# From {Path(path).name}\n{text}")


def keep_inputs(output_folder: str | Path, **inputs: str | None) -> None:
    """Keep what a run was made of beside its settings, and refuse to mix two.

    Writes ``inputs.json``. Weights that were trained on one A must not go on with
    another, nor scores of one test set stand beside those of another.

    Arguments
    ---------
    output_folder : str or Path
        The folder of the run; it must exist.
    **inputs
        Fingerprints of data, base weights and basis, by name.

    Raises
    ------
    HparamsError
        If the folder holds a run with others; they are listed. Or if what they were
        cannot be read.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> keep_inputs(folder, data_hash="12")
    >>> keep_inputs(folder, data_hash="34")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    speechbrain_sumra.training.hparams.HparamsError: ... holds a run with other inputs \
(data_hash: '12' there, '34' now). ...
    """
    hint = " (A data_hash covers the clips' places below --data_folder, too.)"
    _keep(Path(output_folder) / "inputs.json", inputs, "inputs", hint=hint)


def _keep(
    kept: Path,
    values: dict,
    what: str,
    ignored: Iterable[str] = (),
    new: Iterable[str] = (),
    hint: str = "",
) -> None:
    """Write values, unless others are there; those ignored, or new, may differ."""
    if kept.exists():
        try:
            before = dict(json.loads(kept.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise HparamsError(
                f"{kept} is damaged, so this run may be one with other {what}. Name "
                "another --output_folder, or delete that file if it is the same run."
            ) from error
        different = [
            f"{name}: {_shown(before, name)} there, {_shown(values, name)} now"
            for name in sorted(values.keys() | before.keys())
            if name not in ignored
            and (name in before or name not in new)
            and before.get(name) != values.get(name)
        ]
        if different:
            raise HparamsError(
                f"{kept.parent} holds a run with other {what} "
                f"({'; '.join(different)}). Name another --output_folder, or "
                f"remove that one.{hint}"
            )
    write_text(kept, json.dumps(values, indent=2, default=str) + "\n")


def _shown(settings: Mapping, name: str) -> str:
    """A value; versions before or after may not have had it."""
    return repr(settings[name]) if name in settings else "no such setting"
