"""The page without a browser: what is refused, what is said, what is deleted."""

import json
import os
import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import gradio
import numpy as np
import pytest
import soundfile

from speechbrain_sumra.demo import (
    FAILED,
    build_page,
    running,
    serve,
    transcribe_clip,
    transcribe_table,
    transcribe_uploads,
)
from speechbrain_sumra.inference import Segment, Transcription


class StandIn:
    """Says which language it heard a file in; knows no file named bad.*."""

    bank = SimpleNamespace(locales=["eo", "hsb"])

    def __init__(self):
        self.calls = []

    def transcribe_files(self, paths, locales, progress=True, max_seconds=None):
        assert not progress
        self.max_seconds = max_seconds
        self.calls.append((paths, locales))
        return [
            Transcription(path, locale, [], f"{path} cannot\n be read.")
            if "bad." in path
            else Transcription(path, locale, [Segment(0.0, 1.0, f"in {locale}")])
            for path, locale in zip(paths, locales, strict=True)
        ]


@pytest.fixture
def transcriber():
    return StandIn()


def files_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.fixture
def upload(tmp_path):
    """Makes an upload, each in a folder of its own, as Gradio does."""

    def make(name="clip.wav", seconds=1.0, content=None):
        folder = tmp_path / f"upload{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if content is None:
            soundfile.write(folder / name, np.zeros(int(16000 * seconds)), 16000)
        else:
            (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def test_a_clip_is_read_with_and_without_adapter_in_one_call(
    transcriber, upload, tmp_path
):
    path = upload()
    transcribe = partial(transcribe_uploads, transcriber)
    assert transcribe_clip(transcribe, path, "hsb") == ("in hsb", "in None", "")
    assert transcriber.calls == [([path, path], ["hsb", None])]
    assert not files_in(tmp_path)


def test_without_a_clip_one_sentence_asks_for_it(transcriber):
    adapted, unadapted, error = transcribe_clip(
        partial(transcribe_uploads, transcriber), None, "hsb"
    )
    assert adapted == unadapted == "" and error.startswith("Upload or record")
    assert not transcriber.calls


def test_a_bad_file_is_one_row_with_one_line_and_the_rest_goes_on(
    transcriber, upload, tmp_path
):
    paths = [upload("a.wav"), upload("bad.wav", content=b"text"), upload("b.wav")]
    rows = transcribe_table(
        partial(transcribe_uploads, transcriber), paths, ["hsb", "eo", "eo"]
    )
    assert rows == [
        ["a.wav", "hsb", "in hsb", ""],
        ["bad.wav", "eo", "", "bad.wav cannot be read."],
        ["b.wav", "eo", "in eo", ""],
    ]
    assert transcriber.calls == [(paths, ["hsb", "eo", "eo"])]
    assert not files_in(tmp_path)


def test_what_is_too_large_or_too_long_or_gone_is_refused_and_deleted(
    transcriber, upload, tmp_path
):
    paths = [
        upload("good.wav"),
        upload("large.wav", seconds=8),
        upload("long.mp3", seconds=8),
        str(tmp_path / "gone" / "gone.wav"),
        upload("last.wav"),
    ]
    results = transcribe_uploads(
        transcriber, paths, ["eo"] * 5, max_megabytes=0.1, max_seconds=5
    )
    assert [result.error for result in results] == [
        None,
        "large.wav has 0.3 MB; at most 0.1 MB are taken.",
        "long.mp3 is longer than 5 s, or does not say how long it is.",
        "gone.wav is no longer there; please upload it again.",
        None,
    ]
    assert [result.text for result in results] == ["in eo", "", "", "", "in eo"]
    assert transcriber.calls == [([paths[0], paths[4]], ["eo", "eo"])]
    assert transcriber.max_seconds == 5  # for those that do not say how long they are
    assert not files_in(tmp_path)


def test_a_failure_is_one_sentence_and_leaves_no_upload(
    transcriber, upload, tmp_path, monkeypatch, caplog
):
    def fail(*arguments, **settings):
        raise RuntimeError("out of memory\nat line 1")

    monkeypatch.setattr(transcriber, "transcribe_files", fail)
    paths = [upload("a.wav"), upload("long.wav", seconds=8)]
    results = transcribe_uploads(transcriber, paths, ["eo", None], max_seconds=5)
    assert results[0].error == FAILED
    assert results[1].error.startswith("long.wav is longer")
    assert "out of memory" in caplog.text
    assert not files_in(tmp_path)


def test_the_page_reports_to_nobody_and_deletes_what_was_abandoned(transcriber):
    page = build_page(transcriber)
    assert page.analytics_enabled is False
    _, oldest = page.delete_cache
    assert 0 < oldest <= 3600


def test_a_bank_without_languages_gets_no_page(transcriber, monkeypatch):
    monkeypatch.setattr(transcriber, "bank", SimpleNamespace(locales=[]))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with pytest.raises(ValueError, match="adapter file first"):
        serve(transcriber)
    assert "GRADIO_TEMP_DIR" not in os.environ


@pytest.fixture
def port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_server_is_this_machines_and_ends_without_a_trace(
    transcriber, port, monkeypatch, capsys
):
    folders = []

    def look(page):
        folders.append(Path(os.environ["GRADIO_TEMP_DIR"]))
        assert folders[0].stat().st_mode & 0o777 == 0o700
        assert page.server_name == "127.0.0.1" and not page.share_url
        with urlopen(page.local_url) as answer:
            assert answer.status == 200

    monkeypatch.setattr(gradio.Blocks, "block_thread", look)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "elsewhere")
    serve(transcriber, port=port)
    assert len(folders) == 1 and not folders[0].exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "elsewhere"
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().out
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_in_use_is_one_sentence(transcriber):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}: the port is in use"):
            serve(transcriber, port=port)


@pytest.mark.parametrize("port", [-1, 0, 99_999])
def test_a_port_that_cannot_be_is_one_sentence(transcriber, port):
    with pytest.raises(ValueError, match=f"1 to 65535, got {port}"):
        serve(transcriber, port=port)


def test_the_server_offers_the_page_alone(transcriber, port):
    with running(transcriber, port=port) as page:
        with urlopen(f"{page.local_url}config") as answer:
            config = json.load(answer)
        with urlopen(f"{page.local_url}gradio_api/info") as answer:
            assert not any(json.load(answer).values())
    assert config["analytics_enabled"] is config["run_history"] is False
    assert config["footer_links"] == config["stylesheets"] == []


@pytest.mark.parametrize("size, status", [(1000, 200), (200_000, 413)])
def test_the_server_stops_reading_what_is_too_large(transcriber, port, size, status):
    boundary = b"--end"
    head = b'Content-Disposition: form-data; name="files"; filename="a.wav"'
    body = b"\r\n".join([boundary, head, b"", b"0" * size, boundary + b"--", b""])
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary[2:].decode()}"}
    with running(transcriber, port=port, max_megabytes=0.1) as page:
        request = Request(f"{page.local_url}gradio_api/upload", body, kind)
        try:
            with urlopen(request) as answer:
                found = answer.status
        except HTTPError as error:
            found = error.code
        files = files_in(os.environ["GRADIO_TEMP_DIR"])
    assert found == status
    assert [file.name for file in files] == ["a.wav"] * (status == 200)
