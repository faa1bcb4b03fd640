"""A base model's name or folder becomes a local Hugging Face folder."""

from speechbrain_sumra.pretrained.fetch import (
    REVISIONS,
    CorruptModelError,
    ModelNotFoundError,
    fetch_whisper,
    split_revision,
)

__all__ = [
    "REVISIONS",
    "CorruptModelError",
    "ModelNotFoundError",
    "fetch_whisper",
    "split_revision",
]
