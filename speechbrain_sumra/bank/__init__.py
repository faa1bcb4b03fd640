"""Many languages in one model: switched, mixed in a batch, averaged."""

from speechbrain_sumra.bank.bank import Bank
from speechbrain_sumra.bank.catalogue import UnknownLocaleError

__all__ = ["Bank", "UnknownLocaleError"]
