"""Uploads, to a server that stands for the hub and notes what it is asked."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import HfHubHTTPError

from speechbrain_sumra.adapter_file import (
    AdapterFileError,
    read_adapter,
    save_adapter,
    write_adapter,
)
from speechbrain_sumra.export import export_huggingface, push
from speechbrain_sumra.export.folder import RECORD

REPO = "me/whisper-hsb"


@pytest.fixture
def hub(monkeypatch):
    """The hub's four addresses that an upload of small files asks."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    record = SimpleNamespace(requests=[], status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.split("?")[0]
            record.requests.append((path, body, self.headers.get("Authorization")))
            answers = {
                "/api/repos/create": {"url": f"{record.url}/{REPO}"},
                "/api/validate-yaml": {"errors": [], "warnings": []},
                f"/api/models/{REPO}/preupload/main": {"files": modes(path, body)},
                f"/api/models/{REPO}/commit/main": {
                    "commitUrl": f"{record.url}/{REPO}/commit/1",
                    "commitOid": "1",
                },
            }
            reply = json.dumps(answers[path]).encode()
            self.send_response(record.status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    record.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield record
    server.shutdown()
    thread.join()
    server.server_close()


def modes(path, body):
    """Everything may go into the commit itself, as small files do."""
    if not path.endswith("/preupload/main"):
        return []
    return [
        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
        for file in json.loads(body)["files"]
    ]


def committed(hub):
    """Name and content of the files of the only commit."""
    (body,) = [body for path, body, _ in hub.requests if path.endswith("/commit/main")]
    lines = [json.loads(line) for line in body.splitlines()]
    files = [line["value"] for line in lines if line["key"] == "file"]
    assert all(file["encoding"] == "base64" for file in files)
    return {file["path"]: base64.b64decode(file["content"]) for file in files}


def front_matter(card):
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_a_folder_is_one_commit_of_its_files_and_a_card(adapted, hub, tmp_path):
    metadata = {"base_model": "openai/whisper-base", "locale": "hsb", "test_wer": 62.7}
    folder = export_huggingface(adapted(), tmp_path / "hf", metadata=metadata)
    url = push(folder, REPO, token="hf_secret", private=True, endpoint=hub.url)
    assert url == f"{hub.url}/{REPO}"
    files = committed(hub)
    front = front_matter(files.pop("README.md"))
    assert front["base_model"] == "openai/whisper-base" and front["language"] == "hsb"
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files["model.safetensors"]) > 1e6
    (create,) = [json.loads(b) for path, b, _ in hub.requests if "create" in path]
    assert create["name"] == "whisper-hsb" and create["organization"] == "me"
    assert create.get("private") is True or create.get("visibility") == "private"
    assert {token for *_, token in hub.requests} == {"Bearer hf_secret"}


def test_an_adapter_file_is_one_commit_with_a_card(adapted, hub, tmp_path):
    file = tmp_path / "adapter.safetensors"
    save_adapter(file, adapted(), base_model="openai/whisper-base", locale="hsb")
    push(file, REPO, token="hf_secret", endpoint=hub.url)
    files = committed(hub)
    assert files.keys() == {"adapter.safetensors", "README.md"}
    assert files["adapter.safetensors"] == file.read_bytes()
    assert (
        b'hf_hub_download("me/whisper-hsb", "adapter.safetensors")'
        in (files["README.md"])
    )
    (create,) = [json.loads(b) for path, b, _ in hub.requests if "create" in path]
    assert not create.get("private") and create.get("visibility") != "private"


def test_an_adapter_whose_a_was_made_from_speech_is_refused(adapted, hub, tmp_path):
    file = tmp_path / "adapter.safetensors"
    save_adapter(file, adapted())
    metadata, tensors = read_adapter(file)
    write_adapter(file, {**metadata, "strategy": "inputs"}, tensors, "fp32")
    with pytest.raises(ValueError, match="made from speech .*'inputs'.* sumra merge"):
        push(file, REPO, token="hf_secret", endpoint=hub.url)
    assert not hub.requests


@pytest.fixture
def small_folder(tmp_path):
    """What ``push`` takes for an exported folder."""
    (tmp_path / RECORD).write_text(json.dumps({"format": "ctranslate2"}))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.bin").write_bytes(b"weights")
    return tmp_path


def test_files_in_subfolders_keep_their_place(hub, small_folder):
    push(small_folder, REPO, token="hf_secret", endpoint=hub.url)
    assert committed(hub).keys() == {RECORD, "sub/model.bin", "README.md"}


def test_a_card_of_ones_own_is_kept(hub, small_folder):
    (small_folder / "README.md").write_text("My own words")
    push(small_folder, REPO, token="hf_secret", endpoint=hub.url)
    assert committed(hub)["README.md"] == b"My own words"


def test_a_refusal_of_the_hub_is_its_own_error(hub, small_folder):
    hub.status = 400
    with pytest.raises(HfHubHTTPError):
        push(small_folder, REPO, token="wrong", endpoint=hub.url)


def test_other_folders_and_files_are_refused_before_the_hub_is_asked(hub, tmp_path):
    with pytest.raises(ValueError, match="not exported by this package"):
        push(tmp_path, REPO, token="hf_secret", endpoint=hub.url)
    (tmp_path / "note.txt").write_text("mine")
    for path in (tmp_path / "note.txt", tmp_path / "missing"):
        with pytest.raises(AdapterFileError):
            push(path, REPO, token="hf_secret", endpoint=hub.url)
    assert not hub.requests
