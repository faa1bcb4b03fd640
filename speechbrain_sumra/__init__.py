"""Adapt Whisper to new languages with SumRA, on SpeechBrain.

A frozen Whisper, one frozen basis A made from its weights and shared by all
languages, and a small trained file per language.
"""

__version__ = "0.1.0"

__all__ = ["SORSA", "SumRA", "__version__"]


def __getattr__(name: str):
    """The adapters, imported when they are asked for: what needs none starts faster."""
    if name in ("SORSA", "SumRA"):
        from speechbrain_sumra import adapters

        return getattr(adapters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
