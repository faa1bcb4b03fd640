"""HyperPyYAML experiments that share a file, and runs that keep their settings.

An experiment file holds what is its own; ``include`` names the files with the
rest.  HyperPyYAML's ``!include:`` nests the included file under
a key, out of reach of ``--name value`` on the command line, so it is merged
here, before HyperPyYAML sees it.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hyperpyyaml.core import recursive_update
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from speechbrain_sumra.files import write_text


class HparamsError(ValueError):
    """A setting that does not exist, or that contradicts an earlier run."""


def read_experiment(path: str | Path) -> str:
    """The text of an experiment file with its included files merged in.

    Arguments
    ---------
    path : str or Path
        A HyperPyYAML file. If it has a key ``include``, that file or list of
        files (relative to this one) is read first, in the same way; the keys
        of later files and of this one replace or complete earlier ones.

    Returns
    -------
    str
        HyperPyYAML without ``include``.

    Raises
    ------
    HparamsError
        If one of the files does not exist.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "shared.yaml").write_text("rank: 32\\nlr: 0.1\\n")
    >>> _ = (folder / "small.yaml").write_text("include: shared.yaml\\nlr: 0.2\\n")
    >>> print(read_experiment(folder / "small.yaml").strip())
    rank: 32
    lr: 0.2
    """
    return _as_text(_read_merged(Path(path)))


def _as_text(settings: Mapping) -> str:
    stream = StringIO()
    ruamel.yaml.YAML().dump(settings, stream)
    return stream.getvalue()


def _read_merged(path: Path) -> Mapping:
    if not path.is_file():
        raise HparamsError(
            f"No experiment file {path}. The shipped ones are in hparams/."
        )
    with open(path, encoding="utf-8") as file:
        experiment = ruamel.yaml.YAML().load(file)
    if "include" not in experiment:
        return experiment
    included = experiment.pop("include")
    included = [included] if isinstance(included, str) else included
    merged, *others = [_read_merged(path.parent / name) for name in included]
    for other in [*others, experiment]:
        recursive_update(merged, _mappings_taken(merged, other))
    return merged


def _mappings_taken(settings: dict, others: Mapping) -> dict:
    """Put mappings in the place of null; return what else is to be merged.

    HyperPyYAML merges mappings, and refuses to where there is none.
    """
    taken = {
        name: value
        for name, value in others.items()
        if isinstance(value, Mapping) and name in settings and settings[name] is None
    }
    settings.update(taken)
    return {name: value for name, value in others.items() if name not in taken}


def _with_overrides(path: Path, overrides: str) -> tuple[str, str]:
    """An experiment's text, and the overrides that HyperPyYAML can make."""
    experiment = _read_merged(path)
    _check_overrides(path, experiment, overrides)
    rest = _mappings_taken(experiment, _read_overrides(overrides))
    return _as_text(experiment), _as_text(rest)


def setting_names(path: str | Path) -> set[str]:
    """The settings that an experiment file has, included ones as well.

    Arguments
    ---------
    path : str or Path
        A HyperPyYAML file.

    Raises
    ------
    HparamsError
        If one of the files does not exist.

    Example
    -------
    >>> path = getfixture("tmp_path") / "small.yaml"
    >>> _ = path.write_text("rank: 32\\nalpha: !ref <rank>\\n")
    >>> sorted(setting_names(path))
    ['alpha', 'rank']
    """
    return set(_read_merged(Path(path)))


def load_hparams(
    path: str | Path, overrides: str = "", only: Iterable[str] | None = None
) -> dict:
    """Build everything that an experiment file describes, or some of it.

    Arguments
    ---------
    path : str or Path
        A HyperPyYAML file, possibly with ``include``.
    overrides : str
        YAML with other values for top-level keys, as
        ``speechbrain.parse_arguments`` makes it of the command line.
    only : iterable of str
        Build these alone, and what they refer to.

    Returns
    -------
    dict
        The settings and objects by name.

    Raises
    ------
    HparamsError
        If an override names nothing in the file, or a file is missing.

    Example
    -------
    >>> path = getfixture("tmp_path") / "small.yaml"
    >>> _ = path.write_text("rank: 32\\nalpha: !ref <rank>\\n")
    >>> load_hparams(path, "rank: 2")
    {'rank': 2, 'alpha': 2}
    >>> load_hparams(path, "rnak: 2")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    speechbrain_sumra.training.hparams.HparamsError: small.yaml has no setting \
'rnak'; ...
    """
    path = Path(path)
    text, overrides = _with_overrides(path, overrides)
    if only is None:
        return load_hyperpyyaml(text, overrides)
    resolved = ruamel.yaml.YAML().load(resolve_references(StringIO(text), overrides))
    for name in only:
        if name not in resolved:
            raise HparamsError(f"{path.name} has no setting {name!r}.")
    return load_hyperpyyaml(_as_text({name: resolved[name] for name in only}))


def merge_overrides(overrides: str, **changes) -> str:
    """Overrides with some values replaced or added.

    Arguments
    ---------
    overrides : str
        YAML, as ``speechbrain.parse_arguments`` makes it of the command line.
    **changes
        New values by name.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    HparamsError
        If a setting is given twice, or these are no settings.

    Example
    -------
    >>> print(merge_overrides("rank: 2\\nseed: 1", rank=4).strip())
    rank: 4
    seed: 1
    """
    merged = _read_overrides(overrides)
    merged.update(changes)
    return _as_text(merged)


def _read_overrides(overrides: str) -> Mapping:
    try:
        wanted = ruamel.yaml.YAML().load(overrides or "{}")
    except DuplicateKeyError as error:
        name = overrides.splitlines()[error.problem_mark.line].split(":")[0]
        raise HparamsError(f"--{name} is given twice: leave one of them.") from error
    except YAMLError as error:
        raise HparamsError(
            f"Expected settings whose values are YAML, got {overrides!r} ({error}). A "
            "value with ': ' in it needs quotes of its own: --name \"'a: b'\"."
        ) from error
    if not isinstance(wanted, Mapping):
        raise HparamsError(f"Expected settings as --name value, got {overrides!r}.")
    return wanted


def _check_overrides(path: Path, known: Mapping, overrides: str) -> None:
    for name in _read_overrides(overrides):
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"it has {', '.join(known)}."
            )
            raise HparamsError(f"{path.name} has no setting {name!r}; {hint}")


def _is_plain(value) -> bool:
    """Whether a value of a YAML file is no object to be built."""
    if getattr(value, "tag", None) is not None and value.tag.value:
        return False
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, (str, int, float, bool, type(None)))


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
    text, overrides = _with_overrides(Path(path), overrides)
    resolved = resolve_references(StringIO(text), overrides).read()
    values = ruamel.yaml.YAML(typ="rt").load(resolved)
    settings = {name: value for name, value in values.items() if _is_plain(value)}
    objects = _objects(text, merge_overrides(overrides, **dict.fromkeys(ignored)))
    folder = Path(output_folder)
    # Runs of earlier versions have kept no objects.
    _keep(
        folder / "settings.json", {**objects, **settings}, "settings", ignored, objects
    )
    write_text(folder / "hyperparams.yaml", f"# From {Path(path).name}\n{resolved}")


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
    _keep(Path(output_folder) / "inputs.json", inputs, "inputs")


def _keep(
    kept: Path,
    values: dict,
    what: str,
    ignored: Iterable[str] = (),
    new: Iterable[str] = (),
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
                "remove that one."
            )
    write_text(kept, json.dumps(values, indent=2, default=str) + "\n")


def _objects(text: str, overrides: str) -> dict[str, str]:
    """The YAML of settings that are objects to be built."""
    resolved = resolve_references(StringIO(text), overrides).read()
    return {
        name: _as_text({name: value}).partition(":")[2].strip()
        for name, value in ruamel.yaml.YAML(typ="rt").load(resolved).items()
        if not _is_plain(value)
    }


def _shown(settings: Mapping, name: str) -> str:
    """A value; versions before or after may not have had it."""
    return repr(settings[name]) if name in settings else "no such setting"
