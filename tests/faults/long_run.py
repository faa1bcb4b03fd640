"""A run of thousands of steps: memory, open files and logs stay as they are."""

import os
import statistics
import time
from pathlib import Path

import psutil
from processes import LIMIT, start
from recipe import command

SAMPLE = 0.2  # seconds between two looks


def make_corpus(corpus, folder, clips):
    """As many names for the training clips of a small corpus as are asked for."""
    source, target = Path(corpus) / "eo", folder / "eo"
    (target / "clips").mkdir(parents=True)
    for clip in (source / "clips").iterdir():
        os.link(clip, target / "clips" / clip.name)
    for split in ("dev", "test"):
        text = (source / f"{split}.tsv").read_text(encoding="utf-8")
        (target / f"{split}.tsv").write_text(text, encoding="utf-8")
    header, *rows = (source / "train.tsv").read_text("utf-8").splitlines()
    column, lines = header.split("\t").index("path"), [header]
    for number in range(clips):
        fields = rows[number % len(rows)].split("\t")
        name = f"{number}_{fields[column]}"
        os.link(source / "clips" / fields[column], target / "clips" / name)
        fields[column] = name
        lines.append("\t".join(fields))
    (target / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def long_run(whisper, corpus, folder, steps):
    """Train for so many steps; what was seen of the process.

    Memory is the median of a tenth of the samples, in MB: the second tenth of
    training against the last.
    """
    epochs = 3
    line = command(
        whisper_hub=whisper,
        data_folder=make_corpus(corpus, folder / "cv", steps // epochs),
        locale="eo",
        runs_folder=folder / "runs",
        output_folder=folder / "run",
        rank=4,
        batch_size=1,
        number_of_epochs=epochs,
        max_tokens=15,
        num_workers=0,
        score_unadapted=False,
        train_hours=100,
    )
    log = folder / "log"
    process = start("train", [*line, "--noprogressbar", "--device=cpu"], log)
    watched, samples, begin = psutil.Process(process.pid), [], time.monotonic()
    training = folder / "run" / "train_log.txt"
    while process.is_alive() and time.monotonic() - begin < 20 * LIMIT:
        time.sleep(SAMPLE)
        if training.exists():
            try:
                samples.append((watched.memory_info().rss, watched.num_fds()))
            except psutil.Error:
                break
    process.join()
    assert process.exitcode == 0, log.read_text()[-3000:]
    tenth = len(samples) // 10
    early, late = samples[tenth : 2 * tenth], samples[-2 * tenth : -tenth]
    memory = [statistics.median(s[0] for s in part) / 1e6 for part in (early, late)]
    files = [statistics.median(s[1] for s in part) for part in (early, late)]
    written = ("log.txt", "train_log.txt")
    return {
        "steps": steps // epochs * epochs,
        "seconds": round(time.monotonic() - begin, 1),
        "megabytes_early": round(memory[0], 1),
        "megabytes_late": round(memory[1], 1),
        "open_files_early": files[0],
        "open_files_late": files[1],
        "log_bytes": sum((folder / "run" / name).stat().st_size for name in written),
    }
