"""Adapters: each an ``nn.Module`` around one ``nn.Linear``, one file a method."""

from speechbrain_sumra.adapters.sorsa import SORSA
from speechbrain_sumra.adapters.sumra import SumRA

__all__ = ["SORSA", "SumRA"]
