"""The command: results on stdout, one line for what failed, the exit status."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from languages import Languages

from speechbrain_sumra import SORSA, export
from speechbrain_sumra.adapter_file import read_metadata
from speechbrain_sumra.cli import main
from speechbrain_sumra.cli.arguments import add_commands
from speechbrain_sumra.inference import BATCH, Transcriber

COMMANDS = ("transcribe", "demo", "inspect", "list", "mix", "merge", "export", "push")
RATE = 16000


@pytest.fixture(scope="module")
def languages(tiny_whisper, tmp_path_factory):
    languages = Languages(tmp_path_factory.mktemp("languages"), tiny_whisper)
    for seed, locale in enumerate(["aa", "bb"]):
        facts = {"locale": locale, "test_wer": 12.345, "versions": {"torch": "2"}}
        languages.save(f"adapters/{locale}", languages.model(seed), **facts)
    return languages


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(["a.wav", "b.flac", "c.mp3"]):
        noise = np.random.default_rng(i).normal(0, 0.1, (i + 1) * RATE)
        soundfile.write(folder / name, noise, RATE)
    return [str(folder / name) for name in ("a.wav", "b.flac", "c.mp3")]


@pytest.fixture(scope="module")
def expected(languages, clips):
    """What each clip says in a language."""
    transcriber = Transcriber.from_adapters(
        languages.folder / "adapters", max_tokens=6, **languages.places
    )
    return {
        (clip, locale): transcriber.transcribe_files([clip], [locale], False)[0]
        for clip in clips
        for locale in ("aa", "bb", None)
    }


def line(result):
    """What is printed of a transcription."""
    return " ".join(result.text.split())


@pytest.fixture
def places(languages):
    """The options that say where models and bases are."""
    options = [(f"--{name}", str(place)) for name, place in languages.places.items()]
    return [part for option in options for part in option]


@pytest.fixture
def sumra(languages, places, capfd):
    """Runs ``sumra transcribe`` on the adapters; gives status, stdout, stderr."""

    def run(*arguments, adapters=True):
        command = ["transcribe", *places, "--max_tokens", "6", "--precision", "fp32"]
        if adapters:
            command += ["--adapter", str(languages.folder / "adapters")]
        return call([*command, *map(str, arguments)], capfd)

    return run


def call(command, capfd):
    """Status, stdout and stderr of one command."""
    capfd.readouterr()
    try:
        status = main(command)
    except SystemExit as error:
        status = error.code
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_one_file_is_one_line_of_text_and_nothing_else(sumra, clips, expected):
    text = line(expected[clips[0], "aa"])
    assert sumra("--locale", "aa", clips[0]) == (0, f"{text}\n", "")


def test_several_files_are_named(sumra, clips, expected):
    status, out, _ = sumra("--locale", "bb", *clips)
    lines = [f"{clip}\t{line(expected[clip, 'bb'])}" for clip in clips]
    assert (status, out.splitlines()) == (0, lines)


@pytest.mark.parametrize(
    "order",
    [
        "--locale aa --locale bb --locale aa A B C",
        "--locale aa A --locale bb B --locale aa C",
        "A B C --locale aa --locale bb --locale aa",
    ],
)
def test_each_file_may_have_its_locale(sumra, clips, expected, order):
    names = dict(zip("ABC", clips, strict=True))
    arguments = [names.get(part, part) for part in order.split()]
    status, out, _ = sumra("--format", "json", *arguments)
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and len(results) == 3
    for result, clip, locale in zip(results, clips, ["aa", "bb", "aa"], strict=True):
        assert (result["source"], result["locale"]) == (clip, locale)
        assert result["text"] == expected[clip, locale].text
        assert result["segments"][0]["start"] == 0 and result["error"] is None


def test_stdin_is_a_file_too(sumra, clips, expected, monkeypatch):
    for clip in clips:
        with open(clip, "rb") as file:
            stdin = SimpleNamespace(buffer=BytesIO(file.read()))
        monkeypatch.setattr(sys, "stdin", stdin)
        text = line(expected[clip, "aa"])
        assert sumra("--locale", "aa", "-") == (0, f"{text}\n", "")


def test_what_fails_is_one_line_and_the_rest_is_done(sumra, clips, expected, tmp_path):
    bad, missing = tmp_path / "bad.wav", tmp_path / "missing.mp3"
    bad.write_bytes(b"")
    status, out, err = sumra("--locale", "aa", bad, clips[0], missing, clips[1])
    assert status == 1
    lines = [f"{clip}\t{line(expected[clip, 'aa'])}" for clip in clips[:2]]
    assert out.splitlines() == lines
    assert [str(bad) in line for line in err.splitlines()] == [True, False]
    assert [str(missing) in line for line in err.splitlines()] == [False, True]


def test_a_name_that_is_no_text_stops_nothing(sumra, clips, expected, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff.wav")
    shutil.copy(clips[0], odd)
    status, out, _ = sumra("--locale", "aa", odd, clips[1])
    first, second = out.splitlines()
    assert status == 0
    assert first == f"{tmp_path}/\ufffd.wav\t{line(expected[clips[0], 'aa'])}"
    assert second == f"{clips[1]}\t{line(expected[clips[1], 'aa'])}"


def test_json_has_a_line_for_what_failed(sumra, clips, tmp_path):
    missing = str(tmp_path / "missing.mp3")
    status, out, _ = sumra("--locale", "aa", "--format", "json", missing, clips[0])
    failed, good = map(json.loads, out.splitlines())
    assert status == 1
    assert missing in failed["error"] and failed["source"] == missing
    assert good["error"] is None


@pytest.mark.parametrize(
    "name, ending, start",
    [
        ("text", "txt", ""),
        ("json", "json", "{"),
        ("srt", "srt", "1\n00:00:00,000 --> 00:00:0"),
        ("vtt", "vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:0"),
    ],
)
def test_outputs_are_named_as_inputs(
    sumra, clips, expected, tmp_path, name, ending, start
):
    arguments = ["--locale", "bb", "--format", name, "--output", tmp_path / "new"]
    assert sumra(*arguments, *clips) == (0, "", "")
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == [f"{stem}.{ending}" for stem in "abc"]
    for file, clip in zip(files, clips, strict=True):
        text = file.read_text(encoding="utf-8")
        if name == "text":
            assert text == f"{line(expected[clip, 'bb'])}\n"
        assert text.startswith(start) and text.endswith("\n")
    for file in files:
        assert sumra(*arguments[:4], clips["abc".index(file.stem)])[1] == (
            file.read_text(encoding="utf-8")
        )


def test_unadapted_is_whisper_alone(sumra, languages, clips, expected):
    text = line(expected[clips[0], None])
    assert text != line(expected[clips[0], "aa"])
    assert sumra("--unadapted", clips[0])[:2] == (0, f"{text}\n")
    plain = ["--unadapted", "--whisper", languages.source, clips[0]]
    assert sumra(*plain, adapters=False)[:2] == (0, f"{text}\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("A", "aa, bb"),
        ("--locale xx A", "Unknown locale 'xx'.*aa, bb"),
        ("--locale aa --locale bb A B C", "2 times for 3 files"),
        ("--locale aa --unadapted A", "exclude each other"),
        ("--locale aa --format srt A B", "needs --output"),
        ("--locale aa --output O A A", "would write a.txt"),
        ("--locale aa - -", "only once"),
        ("--locale aa", "required: FILE"),
        ("--locale aa --format doc A", "invalid choice: 'doc'"),
        ("--locale aa --batch_size 0 A", "above 0, got 0"),
        ("--locale aa --batch_size x A", "invalid"),
        ("--locale aa --device none A", "--device none"),
        ("--locale aa --loud A", "--loud"),
    ],
)
def test_wrong_usage_is_status_2(sumra, clips, arguments, message):
    names = dict(zip("ABC", clips, strict=True))
    status, out, err = sumra(*(names.get(part, part) for part in arguments.split()))
    assert (status, out) == (2, "")
    assert err.startswith("usage: sumra transcribe") and re.search(message, err)


def test_an_adapter_is_asked_for(sumra, clips):
    status, _, err = sumra(clips[0], adapters=False)
    assert status == 2 and "--adapter" in err


def test_only_the_named_languages_are_taken(
    languages, sumra, clips, expected, places, tmp_path, capfd
):
    folder = shutil.copytree(languages.folder / "adapters", tmp_path / "adapters")
    other = languages.save("cc", languages.model(3, SORSA, rank=4))
    other = str(other.rename(folder / "cc.safetensors"))
    adapters = ["--adapter", str(folder)]
    text = line(expected[clips[0], "aa"])
    assert sumra(*adapters, "--locale", "aa", clips[0], adapters=False)[:2] == (
        (0, f"{text}\n")
    )
    for arguments in (["--locale", "cc"], ["--locale", "aa", "--locale", "cc"], []):
        files = clips[: arguments.count("--locale")] or clips[:1]
        status, _, err = sumra(*adapters, *arguments, *files, adapters=False)
        assert status == 1 and other in err and "SORSA cannot be used" in err
    mixed = str(tmp_path / "mixed.safetensors")
    command = ["mix", "aa=1", "bb=1", *places, *adapters, mixed]
    assert call(command, capfd)[0] == 0


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_an_unusable_adapter_is_one_message(sumra, clips, tmp_path, content):
    path = tmp_path / "xx.safetensors"
    if content is not None:
        path.write_bytes(content)
    status, out, err = sumra("--adapter", path, clips[0], adapters=False)
    assert (status, out) == (1, "")
    assert str(path) in err and err.count("\n") == 1


def test_tracebacks_are_for_those_who_ask(clips, capfd):
    assert main(["transcribe", "--verbose", "--adapter", "none", clips[0]]) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capfd):
    status, out, _ = call([command, "--help"], capfd)
    assert status == 0 and out.startswith(f"usage: sumra {command}")
    assert f"Example:\n  sumra {command} " in out or "| sumra" in out
    overview = call([], capfd)[1]
    assert re.search(rf"^ +{command}\s+\w", overview, re.MULTILINE)


@pytest.mark.parametrize("command", [["nonsense"], ["--"], ["--nonsense"]])
def test_unknown_commands_are_wrong_usage(command, capfd):
    status, _, err = call(command, capfd)
    assert status == 2 and err.startswith("usage: sumra")


def test_inspect_accounts_for_all_bytes(languages, capfd):
    path = languages.folder / "adapters" / "aa.safetensors"
    status, out, _ = call(["inspect", str(path)], capfd)
    facts = dict(re.split("  +", line.strip(), maxsplit=1) for line in out.splitlines())
    assert status == 0
    assert facts["locale"] == "aa" and facts["method"] == "SumRA"
    assert facts["rank"] == "4" and facts["test WER"] == "12.35 %"
    assert str(languages.source) in facts["base model"]
    assert facts["adapted layers"] == "20" and facts["versions"] == "torch 2"
    size = path.stat().st_size
    assert facts["bytes"] == f"{size:,}"
    parts = ["adapters", "layer norms", "language token", "header"]
    numbers = [int(facts[part].split()[0].replace(",", "")) for part in parts]
    assert sum(numbers) == size and all(numbers)


def test_list_shows_adapters_and_nothing_else(languages, capfd):
    status, out, _ = call(["list", str(languages.folder)], capfd)
    header, *rows = out.splitlines()
    assert status == 0 and header.split()[:2] == ["locale", "method"]
    assert len(rows) == 2 and (languages.folder / "basis").is_dir()
    for row, locale in zip(rows, ["aa", "bb"], strict=True):
        assert row.split()[:4] == [locale, "SumRA", "4", "new"]
        assert "12.3" in row and row.endswith(f"{locale}.safetensors")


def test_list_of_nothing_fails(tmp_path, capfd):
    assert call(["list", str(tmp_path)], capfd)[0] == 1
    assert call(["list", str(tmp_path / "none")], capfd)[0] == 2


def test_mix_writes_an_adapter(languages, places, tmp_path, capfd):
    adapters = ["--adapter", str(languages.folder / "adapters")]
    out = tmp_path / "mixed.safetensors"
    command = ["mix", "aa=0.25", "bb=0.75", *places, *adapters, str(out)]
    status, printed, _ = call(command, capfd)
    assert status == 0 and read_metadata(out)["locale"] == printed.strip()
    status, _, err = call(["mix", "aa=half", *adapters, str(out)], capfd)
    assert status == 2 and "LOCALE=WEIGHT, got 'aa=half'" in err
    status, _, err = call(["mix", "xx=1", *places, *adapters, str(out)], capfd)
    assert status == 2 and "'xx'" in err


@pytest.mark.parametrize(
    "weights, message",
    [
        ("aa=nan bb=1", "finite weight, got 'aa=nan'"),
        ("aa=1 bb=-inf", "finite weight, got 'bb=-inf'"),
        ("aa=0.5 aa=0.5", "'aa' is given twice"),
    ],
)
def test_weights_that_mix_nothing_are_refused(
    languages, places, tmp_path, capfd, weights, message
):
    out = tmp_path / "mixed.safetensors"
    adapters = ["--adapter", str(languages.folder / "adapters")]
    command = ["mix", *weights.split(), *places, *adapters, str(out)]
    status, _, err = call(command, capfd)
    assert status == 2 and message in err and not out.exists()


def test_a_mixture_takes_the_place_of_no_adapter_in_it(
    languages, places, tmp_path, capfd
):
    folder = shutil.copytree(languages.folder / "adapters", tmp_path / "adapters")
    (tmp_path / "link.safetensors").symlink_to(folder / "aa.safetensors")
    content = (folder / "aa.safetensors").read_bytes()
    for out in (folder / "aa.safetensors", tmp_path / "link.safetensors"):
        command = ["mix", "aa=1", "bb=1", *places, "--adapter", str(folder), str(out)]
        status, _, err = call(command, capfd)
        assert status == 2 and "is the adapter of 'aa'" in err
    assert (folder / "aa.safetensors").read_bytes() == content
    # What was mixed before may be mixed anew.
    command[-1] = str(folder / "mixed.safetensors")
    assert [call(command, capfd)[0] for _ in range(2)] == [0, 0]


def test_merge_writes_a_hugging_face_folder(
    languages, whisper_base, places, tmp_path, capfd
):
    base = shutil.copytree(languages.source, tmp_path / "base")
    shutil.copy(whisper_base / "generation_config.json", base)
    adapter = languages.folder / "adapters" / "aa.safetensors"
    folder = tmp_path / "merged"
    command = ["merge", "--whisper", base, *places, adapter, folder]
    command = [str(part) for part in command]
    assert call(command, capfd) == (0, f"{folder}\n", "")
    assert (folder / "config.json").is_file()
    status, _, err = call(command, capfd)
    assert status == 1 and "there already" in err


@pytest.mark.parametrize("target", ["huggingface", "peft", "ctranslate2"])
def test_export_chooses_the_writer(
    languages, places, tmp_path, capfd, monkeypatch, target
):
    calls = []

    def write(model, folder, as_language, metadata):
        calls.append((type(model).__name__, folder, as_language, metadata["locale"]))
        return folder

    monkeypatch.setattr(export, f"export_{target}", write)
    adapter = str(languages.folder / "adapters" / "aa.safetensors")
    command = ["export", "--to", target, *places, "--as_language", "pl", adapter, "new"]
    assert call(command, capfd)[:2] == (0, "new\n")
    assert calls == [("AdaptedWhisper", "new", "pl", "aa")]


class Unreachable(Exception):
    """What the hub's client raises is an exception of its own."""


@pytest.mark.parametrize("error", [None, Unreachable("no route"), OSError("refused")])
def test_push_prints_the_address_or_one_line(monkeypatch, capfd, error):
    def push(path, repo_id, private):
        if error is not None:
            raise error
        return f"https://hub/{repo_id}?{private}"

    monkeypatch.setattr(export, "push", push)
    status, out, err = call(["push", "--private", "a.safetensors", "me/hsb"], capfd)
    if error is None:
        assert (status, out, err) == (0, "https://hub/me/hsb?True\n", "")
    else:
        assert (status, out) == (1, "") and str(error) in err and err.count("\n") == 1


def test_demo_serves_the_adapters(languages, places, monkeypatch, capfd):
    calls = []

    def serve(transcriber, host, port):
        calls.append((transcriber.bank.locales, host, port))

    page = SimpleNamespace(serve=serve)
    monkeypatch.setitem(sys.modules, "speechbrain_sumra.demo", page)
    adapters = ["--adapter", str(languages.folder / "adapters")]
    assert call(["demo", *places, *adapters, "--port", "8000"], capfd)[0] == 0
    assert calls == [(["aa", "bb"], "127.0.0.1", 8000)]


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http"])
def test_a_port_that_cannot_be_is_wrong_usage(capfd, port):
    status, _, err = call(["demo", "--adapter", "none", "--port", port], capfd)
    assert status == 2 and "--port" in err


def test_the_demo_says_what_it_needs(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "speechbrain_sumra.demo", None)
    status, _, err = call(["demo", "--adapter", "none"], capfd)
    assert status == 1 and "speechbrain-sumra[serve]" in err


def test_help_is_quick():
    code = (
        "import atexit, sys; from speechbrain_sumra.cli import main;"
        " atexit.register(lambda: print('torch' in sys.modules)); main(['--help'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.endswith("False\n"), "torch is slow to import"


def test_defaults_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    args = parser.parse_args(["transcribe", "a.wav"])
    assert args.batch_size == BATCH


def test_a_reader_that_goes_away_is_no_error(languages):
    command = [sys.executable, "-m", "speechbrain_sumra.cli", "list"]
    process = subprocess.Popen(
        [*command, str(languages.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""
    process.stderr.close()
