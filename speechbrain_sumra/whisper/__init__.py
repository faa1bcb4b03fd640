"""Whisper for languages it does not know: the model, its loss and its decoding."""

from speechbrain_sumra.whisper.model import ENCODER_CONTEXTS, Whisper

__all__ = ["ENCODER_CONTEXTS", "Whisper"]
