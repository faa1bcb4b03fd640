"""Many languages in one model: switched, mixed in a batch, averaged."""

from speechbrain_sumra.bank.bank import Bank, UnknownLocaleError

__all__ = ["Bank", "UnknownLocaleError"]
