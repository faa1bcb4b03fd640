"""How long clips last, measured by decoding them and remembered between runs."""

import csv
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from speechbrain.utils.logger import get_logger

from speechbrain_sumra.audio.audio_file import AudioError, EmptyAudioError, open_audio
from speechbrain_sumra.files import replacing

logger = get_logger(__name__)

COLUMNS = ("clip", "size", "mtime_ns", "duration", "problem")
PROBLEMS = ("unreadable_audio", "zero_length")  # of a file that is there
BLOCK = 2**16  # samples that are decoded at a time


class ClipDurations:
    """Seconds of clips in a folder, remembered in a CSV file between runs.

    A clip is decoded again when its size or time of modification changes; one
    that cannot be decoded is remembered with the reason.

    Arguments
    ---------
    clips : Path
        The folder of the clips. Nothing outside it is opened.
    file : Path
        The CSV file. Folders whose clips have different names may share it.
    num_workers : int
        Threads that decode audio. Default: Python's choice.

    Example
    -------
    >>> import soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", [0.0] * 8000, 16000)
    >>> durations = ClipDurations(folder, folder / "durations.csv")
    >>> durations.measure(["a.wav", "b.wav"])
    [(0.5, ''), (0.0, 'missing_file')]
    """

    def __init__(self, clips: Path, file: Path, num_workers: int | None = None):
        self.folder = Path(os.path.realpath(clips))
        self.file = file
        self.num_workers = num_workers or None
        self.entries = self._load()
        self.changed = False

    def measure(self, clips: list[str]) -> list[tuple[float, str]]:
        """Returns (seconds, problem) of each clip.

        The problem is "" or one of ``PROBLEMS``, "missing_file", and "outside"
        for a clip that is not in the folder.
        """
        # Decoding does not hold Python's lock: on two cores, threads were as
        # fast as processes and twice as fast as one thread.
        with ThreadPoolExecutor(self.num_workers) as pool:
            return list(pool.map(self._measure, clips))

    def save(self) -> None:
        """Writes the file if a clip was measured since it was read."""
        if not self.changed:
            return
        # With what other processes have learnt meanwhile.
        entries = {**self._load(), **self.entries}
        rows = [(clip, *entry) for clip, entry in sorted(entries.items())]
        with (
            replacing(self.file) as partial,
            open(partial, "w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])

    def _measure(self, clip: str) -> tuple[float, str]:
        path = Path(os.path.realpath(self.folder / clip))
        if self.folder not in path.parents:
            return 0.0, "outside"
        if not os.path.isfile(path):  # false, where Path.is_file may raise
            return 0.0, "missing_file"
        stat = path.stat()
        stamp = (stat.st_size, stat.st_mtime_ns)
        if self.entries.get(clip, ())[:2] != stamp:
            try:
                found = (_decoded_seconds(path), "")
            except EmptyAudioError:
                found = (0.0, "zero_length")
            except AudioError as error:
                found = (0.0, "unreadable_audio")
                if isinstance(error.__cause__, PermissionError):
                    return found  # that may be mended
                if isinstance(error.__cause__, OSError):
                    raise  # not the clip's fault
            self.entries[clip] = stamp + found
            self.changed = True
        return self.entries[clip][2:]

    def _load(self) -> dict[str, tuple[int, int, float, str]]:
        if not self.file.exists():
            return {}
        try:
            with open(self.file, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            if tuple(header) != COLUMNS:
                raise ValueError(f"its columns are {header}")
            entries = {c: (int(n), int(t), float(s), p) for c, n, t, s, p in rows}
            for clip, (_, _, seconds, problem) in entries.items():
                known = problem in PROBLEMS if problem else 0 < seconds < math.inf
                if not known:
                    raise ValueError(f"{clip} has {seconds} s and problem {problem!r}")
            return entries
        except (OSError, ValueError, csv.Error) as error:
            logger.warning(f"{self.file} is damaged ({error}); ignoring it.")
            return {}


def _decoded_seconds(path: Path) -> float:
    # The length an mp3 announces is an estimate, off by some milliseconds in
    # most clips, and does not tell whether the rest can be decoded at all.
    with open_audio(path) as audio:
        while not audio.ended:
            audio.read(BLOCK)
        return round(audio.position / audio.rate, 3)
