"""Adapt Whisper to new languages with SumRA, on SpeechBrain.

A frozen Whisper, one frozen basis A made from its weights and shared by all
languages, and a small trained file per language.
"""

from speechbrain_sumra.adapters import SORSA, SumRA

__version__ = "0.1.0"

__all__ = ["SORSA", "SumRA", "__version__"]
