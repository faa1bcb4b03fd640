"""Upload to the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.adapter_file import read_metadata
from speechbrain_sumra.export.folder import facts_of, read_record
from speechbrain_sumra.export.model_card import model_card
from speechbrain_sumra.speech_basis import needs_speech

logger = get_logger(__name__)
CARD = "README.md"


def push(
    path: str | Path,
    repo_id: str,
    token: str | None = None,
    private: bool = False,
    endpoint: str | None = None,
) -> str:
    """Upload an exported folder or an adapter file, in one commit.

    The repository is made if there is none.  A model card is generated, unless
    the folder has a README.md.

    Arguments
    ---------
    path : str or Path
        A folder that this package exported, or an adapter file.
    repo_id : str
        "owner/name" on the hub.
    token : str
        An access token that may write. Default: the one that
        ``hf auth login`` stored.
    private : bool
        Whether a new repository is private. Default: False.
    endpoint : str
        Address of the hub. Default: huggingface.co, or ``$HF_ENDPOINT``.

    Returns
    -------
    str
        Address of the repository.

    Raises
    ------
    AdapterFileError
        If the file is no adapter file.
    ValueError
        If the folder was not exported by this package, or the adapter's A was made
        from speech: it is not in the file, and nobody could compute it again.
    huggingface_hub.errors.HfHubHTTPError
        If the hub refuses.
    """
    path = Path(path)
    if path.is_dir():
        facts = read_record(path)
        found = sorted(file for file in path.rglob("*") if file.is_file())
        files = {file.relative_to(path).as_posix(): file for file in found}
    else:
        metadata = read_metadata(path)
        _check_stands_alone(path, metadata)
        facts = {**facts_of(metadata), "format": "adapter", "file": path.name}
        files = {path.name: path}
    if CARD not in files:
        files[CARD] = model_card(facts, repo_id).encode()
    api = HfApi(endpoint=endpoint, token=token)
    repository = api.create_repo(repo_id, private=private, exist_ok=True)
    api.create_commit(
        repository.repo_id,
        [CommitOperationAdd(name, file) for name, file in files.items()],
        commit_message=f"Upload of {path.name}",
    )
    logger.info("%s is at %s", path, repository.url)
    return repository.url


def _check_stands_alone(path: Path, metadata: dict) -> None:
    """Refuse an adapter that cannot be used without a basis that is elsewhere."""
    strategy = metadata.get("strategy")
    if needs_speech(strategy):
        raise ValueError(
            f"{path} is of no use alone: its A was made from speech (strategy "
            f"{strategy!r}) and is in the basis folder. Upload an exported folder, "
            "which holds A: sumra export --to peft, or sumra merge."
        )
