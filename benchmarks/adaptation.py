"""Adapting Whisper from start to test WER: the stock ways and ours, in turn."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from tqdm import tqdm

HERE = Path(__file__).parent
ROOT = HERE.parent

# Where they are from: docs/benchmarks.md. Stock LoRA is the same function of its
# parameters as ours.
STOCK_LR, LORA_LR, SUMRA_LR = 1e-3, 1e-3, 5e-4


CONTENDERS = (
    *("speechbrain", "transformers"),
    *("ours-lora-cold", "ours-lora-warm", "ours-sumra-cold", "ours-sumra-warm"),
)


@dataclass
class Workload:
    """What all contenders adapt to, and with which settings.

    Attributes
    ----------
    whisper : str
        Hugging Face folder of the base model.
    data_folder, locale : str
        Common Voice data.
    train_hours, dev_hours, test_hours : float
        How much of it.
    epochs, validations_per_epoch : int
        Passes over the training clips; validations in each.
    batch_size, rank, seed, max_tokens : int
        As everywhere.
    """

    whisper: str
    data_folder: str
    locale: str = "hsb"
    train_hours: float = 10
    dev_hours: float = 1
    test_hours: float = 1
    epochs: int = 2
    validations_per_epoch: int = 8
    batch_size: int = 4
    rank: int = 32
    seed: int = 1986
    max_tokens: int = 150


def compare(
    workload: Workload, repeats: int, work: Path, names: Sequence[str]
) -> list[dict]:
    """Run contenders so many times each, one after the other.

    A run that a folder of ``work`` has already is not repeated, so an interrupted
    comparison goes on where it was.

    Arguments
    ---------
    workload : Workload
        The same for all.
    repeats : int
        Runs of each contender.
    work : Path
        For all that runs write.
    names : sequence of str
        Which of ``CONTENDERS``; their order does not matter.

    Returns
    -------
    list of dict
        For each run "contender", "repeat", "wall_seconds" (of the whole process),
        "seconds" (by phase), "peak_memory_bytes" (of the process and its workers),
        "trained_parameters", "test_wer" and "valid_wers" (percent).
    """
    manifests = _write_manifests(workload, work)
    commands = (
        _stock("stock_speechbrain.py", manifests),
        _stock("stock_transformers.py", manifests),
        *[_ours("lora", LORA_LR, "shared-lora")] * 2,
        *[_ours("sumra", SUMRA_LR, "shared-sumra")] * 2,
    )
    contenders = zip(CONTENDERS, commands, strict=True)
    chosen = [(name, command) for name, command in contenders if name in names]
    records = []
    jobs = [(number, *job) for number in range(repeats) for job in chosen]
    for repeat, name, command in tqdm(jobs, desc="Adaptation", unit="run"):
        folder = work / f"repeat{repeat}" / name
        record = folder / "record.json"
        if not record.exists():
            # What an interrupted run left would be resumed.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            facts = {"contender": name, "repeat": repeat}
            arguments, read = command(workload, folder)
            facts |= _run(arguments, folder / "log.txt")
            facts |= read(folder)
            record.write_text(json.dumps(facts, indent=2), encoding="utf-8")
        records.append(json.loads(record.read_text(encoding="utf-8")))
    return records


def _write_manifests(workload: Workload, work: Path) -> Path:
    """Manifests for the stock contenders; ours writes them itself, on the clock."""
    return prepare_manifests(
        workload.data_folder,
        workload.locale,
        work,
        train_hours=workload.train_hours,
        dev_hours=workload.dev_hours,
        test_hours=workload.test_hours,
    )


def prepare_manifests(data_folder: str, locale: str, work: Path, **hours) -> Path:
    """Manifests as the recipe writes them, in ``work``/manifests.

    Arguments
    ---------
    data_folder, locale : str
        Common Voice data.
    work : Path
        Where to write.
    **hours
        ``train_hours``, ``dev_hours``, ``test_hours``; default 1.
    """
    sys.path.insert(0, str(ROOT / "recipes" / "CommonVoice"))
    from common_voice_prepare import prepare_common_voice

    folder = work / "manifests"
    prepare_common_voice(
        data_folder=data_folder,
        locale=locale,
        save_folder=folder,
        **{"train_hours": 1, "dev_hours": 1, "test_hours": 1, **hours},
        max_duration=10.0,
        max_characters=200,
        durations_file=work / "durations.csv",
    )
    return folder


def _options(**settings) -> list[str]:
    return [
        part for name, value in settings.items() for part in (f"--{name}", str(value))
    ]


def _stock(script: str, manifests: Path):
    def command(workload: Workload, folder: Path):
        arguments = _options(
            whisper=workload.whisper,
            manifests=manifests,
            data_folder=workload.data_folder,
            output=folder,
            epochs=workload.epochs,
            validations=workload.epochs * workload.validations_per_epoch,
            batch_size=workload.batch_size,
            rank=workload.rank,
            lr=STOCK_LR,
            seed=workload.seed,
            max_tokens=workload.max_tokens,
        )
        return [HERE / script, *arguments], _stock_result

    return command


def _stock_result(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    keys = ("seconds", "trained_parameters", "test_wer", "valid_wers")
    return {key: result[key] for key in keys}


def _ours(method: str, lr: float, runs_folder: str):
    def command(workload: Workload, folder: Path):
        if folder.name.endswith("-cold"):
            shutil.rmtree(folder.parent / runs_folder, ignore_errors=True)
        arguments = _options(
            locale=workload.locale,
            data_folder=workload.data_folder,
            whisper_hub=workload.whisper,
            runs_folder=folder.parent / runs_folder,
            output_folder=folder / "run",
            train_hours=workload.train_hours,
            dev_hours=workload.dev_hours,
            test_hours=workload.test_hours,
            number_of_epochs=workload.epochs,
            validations_per_epoch=workload.validations_per_epoch,
            batch_size=workload.batch_size,
            rank=workload.rank,
            lr=lr,
            seed=workload.seed,
            max_tokens=workload.max_tokens,
            score_unadapted=False,
        )
        script = ROOT / "recipes" / "CommonVoice" / "train.py"
        experiment = ROOT / "hparams" / f"{method}_whisper_base.yaml"
        return [script, experiment, *arguments], _our_result

    return command


def _our_result(folder: Path) -> dict:
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    return {
        "seconds": summary["seconds"],
        "trained_parameters": summary["trained_parameters"],
        "test_wer": summary["test_wer"],
        "valid_wers": [record["WER"] for record in summary["validations"]],
    }


def _run(arguments: list, log: Path) -> dict:
    """Run a Python script; its wall time, and the most memory it had."""
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        peak = _PeakMemory(process.pid)
        status = process.wait()
    wall = time.monotonic() - start
    if status:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise RuntimeError(
            f"{Path(arguments[0]).name} ended with status {status}; the end of "
            f"{log}:\n" + "\n".join(last)
        )
    return {"wall_seconds": round(wall, 2), "peak_memory_bytes": peak.stop()}


class _PeakMemory:
    """Watches the resident memory of a process and its children.

    Memory that processes share (a data loader's workers) counts once.
    """

    def __init__(self, pid: int, interval: float = 0.5):
        self._process = psutil.Process(pid)
        self._interval = interval
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(self._interval):
            self._peak = max(self._peak, self._now())

    def _now(self) -> int:
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return 0
        total = 0
        for member in family:
            try:
                total += member.memory_full_info().pss
            except (psutil.Error, AttributeError):
                continue
        return total

    def stop(self) -> int:
        """Most bytes seen."""
        self._ended.set()
        self._thread.join()
        return self._peak


def workload_facts(workload: Workload) -> dict:
    """The workload for a report, without places of the machine."""
    return {
        name: value
        for name, value in asdict(workload).items()
        if name not in ("whisper", "data_folder")
    }
