"""What to do about failures of the machine, from what libraries raise."""

import errno
import os
import resource

import pytest
import torch
from safetensors.torch import save_file

from speechbrain_sumra.training import failures
from speechbrain_sumra.training.failures import advice


def caught(do):
    """What a call raises."""
    with pytest.raises(BaseException) as error:
        do()
    return error.value


@pytest.mark.parametrize(
    "number, what_to_do",
    [
        (errno.ENOSPC, failures.FULL),
        (errno.EDQUOT, failures.FULL),
        (errno.EROFS, failures.WRITE),
        (errno.EACCES, failures.WRITE),
        (errno.EMFILE, failures.HANDLES),
        (errno.ENOMEM, failures.MEMORY),
        (errno.ENOENT, None),
    ],
)
def test_numbers(number, what_to_do):
    assert advice(OSError(number, os.strerror(number))) == what_to_do


@pytest.mark.parametrize("writer", [torch.save, save_file])
def test_what_libraries_say_of_a_full_disk(writer, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        error = caught(lambda: writer({"x": torch.zeros(10_000)}, tmp_path / "x"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert advice(error) == failures.FULL, error


def test_memory():
    error = caught(lambda: torch.empty(2**50, dtype=torch.uint8))
    assert advice(error) == failures.MEMORY
    assert advice(torch.OutOfMemoryError()) == advice(MemoryError()) == failures.MEMORY


def test_causes_count_and_other_errors_do_not():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ValueError("the checkpoint cannot be written") from error
    except ValueError as error:
        assert advice(error) == failures.FULL
    assert advice(ValueError("No space left on device")) is None
    assert advice(KeyError("x")) is None
