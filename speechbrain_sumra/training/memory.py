"""Less memory on CPUs, where batches of many lengths would make it grow."""

import os

KERNELS = "64"


def limit_kernel_cache() -> None:
    """Keep few of the kernels that PyTorch compiles for shapes of batches.

    It keeps a bfloat16 kernel for each of the last 1024 shapes it multiplied, and every
    batch has new ones: 0.7 GB after an hour of speech. A training step needs some
    fifty; with fewer places than that all are compiled anew in every step. Call
    this before the first computation; values that are set in the environment are left
    alone.

    Example
    -------
    >>> limit_kernel_cache()
    >>> os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    '64'
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
