"""Files and folders that appear whole, and are written by one process at a time."""

from speechbrain_sumra.files.writing import (
    beside,
    flush,
    is_running,
    remove,
    remove_leftovers,
    replacing,
    write_text,
)

__all__ = [
    "beside",
    "flush",
    "is_running",
    "remove",
    "remove_leftovers",
    "replacing",
    "write_text",
]
