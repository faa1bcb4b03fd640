"""HyperPyYAML experiments that share a file.

An experiment file holds what is its own; ``include`` names the files with the
rest.  HyperPyYAML's ``!include:`` nests the included file under
a key, out of reach of ``--name value`` on the command line, so it is merged
here, before HyperPyYAML sees it.
"""

import difflib
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hyperpyyaml.core import recursive_update
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError


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


def resolve_settings(path: str | Path, overrides: str = "") -> tuple[str, dict, dict]:
    """An experiment with all references resolved, and nothing built.

    Arguments
    ---------
    path : str or Path
        A HyperPyYAML file.
    overrides : str
        YAML with other values for top-level keys.

    Returns
    -------
    text : str
        HyperPyYAML that can be run by itself.
    values : dict
        Its settings that are plain values, by name.
    objects : dict of str to str
        The YAML of those that are objects to be built.

    Raises
    ------
    HparamsError
        If an override names nothing in the file, or a file is missing.

    Example
    -------
    >>> path = getfixture("tmp_path") / "own.yaml"
    >>> _ = path.write_text("lr: 1\\nopt: !name:torch.optim.SGD {lr: !ref <lr>}\\n")
    >>> resolve_settings(path)[1:]
    ({'lr': 1}, {'opt': '!name:torch.optim.SGD {lr: 1}'})
    """
    text, overrides = _with_overrides(Path(path), overrides)
    resolved = resolve_references(StringIO(text), overrides).read()
    settings = ruamel.yaml.YAML(typ="rt").load(resolved)
    values = {name: value for name, value in settings.items() if _is_plain(value)}
    objects = {
        name: _as_text({name: value}).partition(":")[2].strip()
        for name, value in settings.items()
        if name not in values
    }
    return resolved, values, objects


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
