"""kill -9 at random moments: nothing is lost but the work of some seconds."""

import functools
import random
import shutil
import time

import pytest
import torch
from processes import finish, start, succeed
from recipe import read_json
from transformers import GenerationConfig

from speechbrain_sumra.adapter_file import read_adapter
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.features import _read
from speechbrain_sumra.training.checkpoint import Checkpointer
from speechbrain_sumra.training.history import History

ADAPTER = "adapter.safetensors"


def kill_repeatedly(program, arguments, log, points, longest, *, reset, check):
    """Start a program and kill it after a random time, again and again.

    One that ends by itself before must have succeeded, and begins anew after
    ``reset``. ``check`` looks at what a killed one has left.
    """
    times, kills = random.Random(points), 0
    while kills < points:
        process = start(program, arguments, log)
        process.join(times.uniform(0, longest))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, log.read_text()[-3000:]
            reset()
        check()
    succeed(program, arguments, log)


def timed(program, arguments, log):
    """Seconds of a run that nobody disturbs."""
    finish("sumra", ["--version"], log)  # what is forked from takes seconds to start
    begin = time.monotonic()
    succeed(program, arguments, log)
    return time.monotonic() - begin


def assert_same_adapter(folder, other):
    """Bit for bit, and of the same test WER; the order of the header is random."""
    (one, tensors), (two, others) = (read_adapter(f / ADAPTER) for f in (folder, other))
    assert one == two and tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def leftovers(folder):
    """Files that somebody was writing."""
    hidden = (path for path in folder.rglob(".*") if path.is_file())
    return [path for path in hidden if not path.name.startswith(".lock")]


@pytest.mark.fault(
    fault="`kill -9` of training",
    provoked="SIGKILL after random times, in every phase of a run",
    result="the same command goes on from the last validation (1/8 epoch) and ends "
    "with the same adapter, bit for bit, and the same WER",
)
def test_training(arguments, tmp_path, points):
    log, whole, run = tmp_path / "log", tmp_path / "whole", tmp_path / "run"
    short = functools.partial(arguments, number_of_epochs=1)
    longest = timed("train", short(output_folder=whole), log)
    done = [0]

    def validations():
        history = History()
        checkpointer = Checkpointer(run / "save", {"history": history})
        checkpointer.recover_if_possible()
        return len(history.records)

    def check():
        # What was finished once is not done again.
        assert validations() >= done[0]
        done[0] = validations()
        if (run / ADAPTER).exists():
            assert_same_adapter(run, whole)

    def reset():
        shutil.rmtree(run)
        done[0] = 0

    kill_repeatedly("train", short(), log, points, longest, reset=reset, check=check)
    assert_same_adapter(run, whole)
    killed, undisturbed = (read_json(f / "summary.json") for f in (run, whole))
    for fact in ("test_wer", "test_errors", "test_loss", "validations"):
        assert killed[fact] == undisturbed[fact]
    assert leftovers(run) == []


@pytest.mark.fault(
    fault="`kill -9` of the preparation",
    provoked="SIGKILL after random times while clips are decoded and files written",
    result="each manifest is whole or not there; the same command makes the same ones",
)
def test_preparation(synthetic_corpus, tmp_path, points):
    log, whole, folder = tmp_path / "log", tmp_path / "whole", tmp_path / "manifests"
    line = ["--data_folder", synthetic_corpus, "--locale", "eo", "--save_folder"]
    longest = timed("prepare", [*line, whole], log)
    manifests = [f"{split}.csv" for split in ("train", "dev", "test")]

    def check():
        for name in manifests:
            if (folder / name).exists():
                assert (folder / name).read_bytes() == (whole / name).read_bytes()
        if (folder / "manifest_report.json").exists():
            assert all((folder / name).exists() for name in manifests)

    def reset():
        shutil.rmtree(folder)

    kill_repeatedly(
        "prepare", [*line, folder], log, points, longest, reset=reset, check=check
    )
    check()
    assert leftovers(folder) == []


@pytest.mark.fault(
    fault="`kill -9` of feature extraction",
    provoked="SIGKILL after random times",
    result="kept encoder states are whole; the same command computes the rest",
)
def test_features(settings, tmp_path, points):
    log = tmp_path / "log"
    names = ("whisper_hub", "data_folder", "locale", "runs_folder")
    line = ["hparams/sumra_whisper_base.yaml", "--noprogressbar", "--device=cpu"]
    line += [f"--{name}={settings[name]}" for name in names]
    features = settings["runs_folder"] / "features"
    longest = timed("features", line, log)
    whole = {path.name: _read(path) for path in features.rglob("*.safetensors")}
    shutil.rmtree(features)

    def kept():
        return {path.name: _read(path) for path in features.rglob("*.safetensors")}

    def check():
        for name, states in kept().items():
            assert torch.equal(states, whole[name])

    def reset():
        shutil.rmtree(features)

    kill_repeatedly("features", line, log, points, longest, reset=reset, check=check)
    check()
    assert kept().keys() == whole.keys()
    assert leftovers(features) == []


@pytest.mark.fault(
    fault="`kill -9` of an export",
    provoked="SIGKILL after random times",
    result="the folder is whole or not there",
)
def test_export(arguments, settings, tmp_path, points, tiny_whisper, whisper_base):
    log = tmp_path / "log"
    base = tmp_path / "tiny-whisper"
    shutil.copytree(tiny_whisper, base)
    GenerationConfig.from_pretrained(whisper_base).save_pretrained(base)
    short = {"number_of_epochs": 1, "validations_per_epoch": 1, "whisper_hub": base}
    succeed("train", arguments(score_unadapted=False, **short), log)
    adapter = settings["output_folder"] / "adapter.safetensors"

    def line(folder):
        places = [f"--pretrained_folder={settings['runs_folder']}/pretrained"]
        places += [f"--basis_folder={settings['runs_folder']}/basis"]
        how = ["--to", "huggingface", "--as_language", "pl"]
        return ["export", *how, adapter, folder, *places]

    longest = timed("sumra", line(tmp_path / "whole"), log)
    folder = tmp_path / "exported"

    def contents(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    whole = contents(tmp_path / "whole")

    def check():
        if folder.exists():
            assert contents(folder) == whole
            shutil.rmtree(folder)

    kill_repeatedly(
        "sumra", line(folder), log, points, longest, reset=lambda: None, check=check
    )
    assert contents(folder) == whole
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == []
    # The basis that the first of them needed was there or was made again.
    for path in (settings["runs_folder"] / "basis").glob("*.safetensors"):
        Basis.load(path)
