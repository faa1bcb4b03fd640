"""Commands that start together get GPUs of their own."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "workflow" / "on_free_gpu.sh"


@pytest.fixture
def start(tmp_path):
    """Starts a command on a machine with two GPUs; it says its own and waits."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho GPU 0\necho GPU 1\n")
    fake.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
    }
    environment.pop("CUDA_VISIBLE_DEVICES", None)

    def run(needed, **variables):
        return subprocess.Popen(
            [
                "bash",
                SCRIPT,
                str(needed),
                "sh",
                "-c",
                "echo gpu $CUDA_VISIBLE_DEVICES; read _",
            ],
            env={**environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def test_each_has_its_own_and_one_too_many_is_told(start):
    first, second = start(1), start(1)
    found = {process.stdout.readline().strip() for process in (first, second)}
    assert found == {"gpu 0", "gpu 1"}
    _, message = (third := start(1)).communicate()
    assert third.returncode == 1
    assert "All 2 GPUs are held" in message and "gpu=2" in message
    # When one ends, even killed, its GPU is free.
    first.kill()
    first.communicate()
    fourth = start(1)
    assert fourth.stdout.readline().startswith("gpu ")
    for process in (second, fourth):
        process.communicate("\n")
        assert process.returncode == 0


def test_of_several_that_were_chosen_each_has_one(start):
    processes = [start(1, CUDA_VISIBLE_DEVICES="5, GPU-a/b") for _ in range(2)]
    found = {process.stdout.readline().strip() for process in processes}
    assert found == {"gpu 5", "gpu GPU-a/b"}
    _, message = start(1, CUDA_VISIBLE_DEVICES="5,GPU-a/b").communicate()
    assert "All 2 GPUs are held" in message
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0


@pytest.mark.parametrize(
    "needed, variables",
    [
        (0, {}),
        (0, {"CUDA_VISIBLE_DEVICES": "6,7"}),
        (1, {"CUDA_VISIBLE_DEVICES": "7"}),
        (1, {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)
def test_none_is_taken_where_none_is_needed_or_one_was_chosen(start, needed, variables):
    processes = [start(needed, **variables) for _ in range(3)]
    for process in processes:
        said, _ = process.communicate("\n")
        assert said.strip() == " ".join(["gpu", *variables.values()]).strip()
        assert process.returncode == 0
