"""Less memory on CPUs, where batches of many lengths would make it grow."""

import ctypes
import os
import sys

KERNELS = "16"
BYTES = 1 << 20
# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def save_memory() -> None:
    """Keep few compiled kernels, and give freed memory back to the system.

    PyTorch keeps a bfloat16 kernel for each of the last 1024 shapes it multiplied,
    and glibc keeps freed blocks of up to 32 MB. Both grow with every new length of a
    batch. Call this before the first computation; values that are set in the
    environment are left alone. Nothing happens to memory on other systems than Linux
    with glibc.

    Example
    -------
    >>> save_memory()
    >>> os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    '16'
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for option, name in (
        (M_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_"),
        (M_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_"),
    ):
        if mallopt is not None and name not in os.environ:
            mallopt(option, BYTES)
