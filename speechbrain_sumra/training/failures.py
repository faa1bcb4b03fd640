"""What a user can do about a failure of the machine."""

import errno

import torch
from safetensors import SafetensorError

FULL = "Make room, and start again: what was finished is kept."
WRITE = "Check who owns it and whether it is mounted for writing, or name another."
HANDLES = "Allow more of them (ulimit -n 4096), or lower --num_workers."
MEMORY = (
    "Lower --batch_size (and raise --grad_accumulation_factor by as much), "
    "--test_batch_size or --max_duration, or choose a smaller model; or end what else "
    "uses the memory. Start again: the run goes on from its last checkpoint, and needs "
    "another --output_folder only if its batch size has changed."
)
WORKER = (
    "Often the system ends a process for want of memory: lower --num_workers (0: none) "
    "and start again: the run goes on from its last checkpoint."
)

_BY_NUMBER = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), WRITE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), HANDLES),
    errno.ENOMEM: MEMORY,
}
# What torch and safetensors say in words alone.
_BY_WORDS = {
    "No space left on device": FULL,
    "Disk quota exceeded": FULL,
    "File too large": FULL,
    "PytorchStreamWriter failed": FULL,
    "unexpected pos": FULL,  # of the same writer
    "Read-only file system": WRITE,
    "Permission denied": WRITE,
    "Too many open files": HANDLES,
    "can't allocate memory": MEMORY,
    "Cannot allocate memory": MEMORY,
    "can't start new thread": MEMORY,
    "could not create a primitive": MEMORY,  # oneDNN
    "DataLoader worker": WORKER,
}


def advice(error: BaseException) -> str | None:
    """What to do about a full disk, a lost process and the like.

    Arguments
    ---------
    error : BaseException
        What was raised. What it was raised from is looked at, too.

    Returns
    -------
    str
        None if the error is none of the machine's.

    Example
    -------
    >>> advice(OSError(errno.ENOSPC, "No space left on device"))
    'Make room, and start again: what was finished is kept.'
    >>> advice(ValueError("rank 17"))
    """
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return MEMORY
        if isinstance(error, OSError) and error.errno in _BY_NUMBER:
            return _BY_NUMBER[error.errno]
        if isinstance(error, (OSError, RuntimeError, SafetensorError)):
            for words, what in _BY_WORDS.items():
                if words in str(error):
                    return what
        error = error.__cause__ or error.__context__
    return None
