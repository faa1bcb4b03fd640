"""Sources of Whisper models: folders, the hub, offline packages."""

import hashlib
import json
import shutil
import socket
import time

import huggingface_hub
import pytest
import torch
from ctranslate2_writer import load, logits

from speechbrain_sumra.files.cache_folder import CACHE_VARIABLE
from speechbrain_sumra.pretrained import (
    REVISIONS,
    CorruptModelError,
    ModelNotFoundError,
    fetch,
    fetch_whisper,
)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """Offline mode and an empty Hugging Face cache, which is returned."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub")
    )
    return tmp_path / "hub"


def test_default_cache_is_a_setting(own_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert fetch_whisper(str(own_folder)).parent == tmp_path / "elsewhere"


# ---- folders


def test_huggingface_folder_is_returned_as_it_is(converted, tmp_path):
    assert fetch_whisper(str(converted), tmp_path / "cache") == converted
    assert not (tmp_path / "cache").exists()


def test_huggingface_folder_with_missing_shards(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "sharded")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match="model-00002-of-00002"):
        fetch_whisper(str(folder))


def test_folder_of_another_kind(tmp_path):
    with pytest.raises(ModelNotFoundError, match="Files found: none"):
        fetch_whisper(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelNotFoundError, match=r"notes.txt[\s\S]*model.bin"):
        fetch_whisper(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(ModelNotFoundError, match="wav2vec2, expected whisper"):
        fetch_whisper(str(tmp_path))


# ---- the hub


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_hub_download_takes_one_kind_of_weights(
    monkeypatch, tmp_path, converted, weights
):
    asked = []

    def download(name, revision, allow_patterns, local_files_only):
        assert (name, revision) == ("someone/whisper", None)
        asked.append(allow_patterns)
        assert not local_files_only
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        shutil.copy(converted / "config.json", folder)
        if weights in allow_patterns:
            (folder / weights).touch()
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_whisper("someone/whisper", tmp_path) == tmp_path / "snapshot"
    assert weights in asked[-1]
    assert len(asked) == (1 if weights == "model.safetensors" else 2)
    assert not any("msgpack" in p or ".h5" in p for patterns in asked for p in patterns)


@pytest.mark.parametrize("kind", ["converted", "ct2_folder"])
def test_cached_copy_is_found_offline(kind, no_hub, request, tmp_path):
    repo = no_hub / "models--someone--whisper"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    snapshot = repo / "snapshots" / ("0" * 40)
    shutil.copytree(request.getfixturevalue(kind), snapshot)
    folder = fetch_whisper("someone/whisper", tmp_path / "cache")
    if kind == "converted":
        assert folder == snapshot
    else:
        assert folder.parent == tmp_path / "cache"
        assert folder.name.startswith("whisper-")


def test_a_version_can_be_named(no_hub, converted, tmp_path):
    for revision, weights in (("v1", b"old"), ("1" * 40, b"new")):
        snapshot = no_hub / "models--someone--whisper" / "snapshots" / revision
        shutil.copytree(converted, snapshot)
        (snapshot / "model.safetensors").write_bytes(weights)
    refs = no_hub / "models--someone--whisper" / "refs"
    refs.mkdir()
    (refs / "v1").write_text("v1")
    for revision, weights in (("v1", b"old"), ("1" * 40, b"new")):
        folder = fetch_whisper(f"someone/whisper@{revision}", tmp_path / "cache")
        assert (folder / "model.safetensors").read_bytes() == weights
    with pytest.raises(ModelNotFoundError, match="someone/whisper@v2"):
        fetch_whisper("someone/whisper@v2", tmp_path / "cache")


@pytest.mark.parametrize("name", REVISIONS)
def test_shipped_models_are_pinned(no_hub, converted, tmp_path, name):
    repo = no_hub / f"models--{name.replace('/', '--')}"
    for commit, weights in ((REVISIONS[name], b"known"), ("0" * 40, b"newer")):
        shutil.copytree(converted, repo / "snapshots" / commit)
        (repo / "snapshots" / commit / "model.safetensors").write_bytes(weights)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    folder = fetch_whisper(name, tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == b"known"
    folder = fetch_whisper(f"{name}@main", tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == b"newer"


def test_unanswering_hub_is_given_up_soon(monkeypatch, no_hub):
    with socket.socket() as server:  # accepts, and never says a word
        server.bind(("127.0.0.1", 0))
        server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(fetch, "HUB_TIMEOUT", 0.3)
        start = time.monotonic()
        with pytest.raises(ModelNotFoundError, match="ReadTimeout"):
            fetch_whisper("someone/whisper")
        assert time.monotonic() - start < 10


def test_error_says_what_was_tried_and_what_works(no_hub):
    with pytest.raises(ModelNotFoundError) as error:
        fetch_whisper("someone/whisper")
    for part in (
        "local folder: there is none",
        "Hugging Face hub: OfflineModeIsEnabled",
        "CTranslate2 folder",
        'pip install "speechbrain-sumra[offline]"',
    ):
        assert part in str(error.value)


def test_path_is_not_taken_for_a_hub_name():
    with pytest.raises(ModelNotFoundError) as error:
        fetch_whisper("../no/such/folder")
    assert "Hugging Face hub:" not in str(error.value)


# ---- the offline packages


@pytest.fixture
def packages(ct2_folder, tmp_path, monkeypatch):
    """Two packages made like the real ones, around the tiny model."""
    names = ("tiny_whisper_part_1", "tiny_whisper_part_2")
    data = (ct2_folder / "model.bin").read_bytes()
    parts = (data[:5000], data[5000:])
    for number, (name, part) in enumerate(zip(names, parts, strict=True), start=1):
        folder = tmp_path / "site" / name / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / f"model.bin.part{number}").write_bytes(part)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(ct2_folder / name, folder)
    known = {
        "model.bin": hashlib.sha256(data).hexdigest(),
        "tokenizer.json": hashlib.sha256(
            (ct2_folder / "tokenizer.json").read_bytes()
        ).hexdigest(),
    }
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(fetch, "OFFLINE_PACKAGES", names)
    monkeypatch.setattr(fetch, "OFFLINE_SHA256", known)
    return tmp_path / "site"


def test_whisper_base_from_offline_packages(no_hub, packages, tiny, tmp_path):
    folder = fetch_whisper("openai/whisper-base", tmp_path / "cache")
    assert folder.parent == tmp_path / "cache"
    assert folder.name.startswith("whisper-base-")
    assert torch.equal(logits(load(folder)), logits(tiny))


@pytest.mark.parametrize("name", ["model.bin.part2", "tokenizer.json"])
def test_changed_offline_package_is_refused(no_hub, packages, name, tmp_path):
    file = packages / "tiny_whisper_part_2" / "data" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CorruptModelError, match="expected"):
        fetch_whisper("openai/whisper-base", tmp_path / "cache")
    file.unlink()
    with pytest.raises(CorruptModelError, match=f"{name} is missing"):
        fetch_whisper("openai/whisper-base", tmp_path / "cache")


def test_missing_offline_packages(no_hub, monkeypatch):
    monkeypatch.setattr(fetch, "OFFLINE_PACKAGES", ("no_such_package",))
    with pytest.raises(ModelNotFoundError, match="no-such-package is not installed"):
        fetch_whisper("openai/whisper-base")


def test_offline_packages_hold_only_whisper_base(no_hub, packages, tmp_path):
    with pytest.raises(ModelNotFoundError):
        fetch_whisper("openai/whisper-small", tmp_path / "cache")
