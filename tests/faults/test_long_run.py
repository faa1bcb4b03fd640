"""Nothing grows with the number of steps."""

import json
import os
from pathlib import Path

import pytest
from long_run import long_run

# `make faults` takes 5,000; what grows by the step shows in fewer, less surely.
STEPS = int(os.environ.get("LONG_RUN_STEPS", "300"))
RESULT = "LONG_RUN_RESULT"  # names the file that `make faults` reads


@pytest.mark.fault(
    fault="a long run",
    provoked="hundreds of steps in `make test`, thousands in `make faults`",
    result="memory, open files and logs do not grow with the steps",
)
def test_nothing_grows(tiny_whisper, synthetic_corpus, tmp_path):
    seen = long_run(tiny_whisper, synthetic_corpus, tmp_path, STEPS)
    if RESULT in os.environ:
        Path(os.environ[RESULT]).write_text(json.dumps(seen), encoding="utf-8")
    assert seen["open_files_late"] <= seen["open_files_early"]
    assert seen["megabytes_late"] < 1.05 * seen["megabytes_early"]
    # 24 validations of a few lines each, however many steps.
    assert seen["log_bytes"] < 100_000
