#!/usr/bin/env python3
"""Coverage-guided fuzzing of adapter and basis files: `make fuzz`.

> python fuzz_adapters.py corpus/adapters -max_total_time=60

Of any bytes as a file, or as the metadata of a sound one, one AdapterFileError or
BasisError says what is wrong, or they are read.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris
import torch
from safetensors.torch import save

with atheris.instrument_imports(include=["speechbrain_sumra"]):
    from speechbrain_sumra.adapter_file import (
        FORMAT,
        AdapterFileError,
        _checksum,
        read_adapter,
        read_metadata,
        read_shapes,
    )
    from speechbrain_sumra.basis import FORMAT as BASIS_FORMAT
    from speechbrain_sumra.basis import Basis, BasisError
    from speechbrain_sumra.cli.adapters import facts_of
    from speechbrain_sumra.restore import method_of

PATH = Path(tempfile.mkdtemp(prefix="fuzz-adapters-")) / "adapter.safetensors"
TENSORS = {"model.decoder.layers.0.fc1.adapter_up_proj.weight": torch.ones(4, 2)}


def read(data: bytes) -> None:
    """One file."""
    PATH.write_bytes(data)
    for reader in (read_metadata, read_adapter, read_shapes, facts_of):
        with suppress(AdapterFileError):
            reader(PATH)
    with suppress(AdapterFileError):
        method_of(read_metadata(PATH))
    with suppress(BasisError):
        Basis.load(PATH)


def fuzz(data: bytes) -> None:
    """One file as it is, and one with sound tensors."""
    read(data)
    text = data.decode("utf-8", errors="replace")
    checksum = _checksum(text, TENSORS)
    read(save(TENSORS, {"format": FORMAT, "adapter": text, "crc32": checksum}))
    fields = dict.fromkeys(("description", "figures", "made_from", "fingerprint"), text)
    read(save(TENSORS, {"format": BASIS_FORMAT, **fields}))


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
