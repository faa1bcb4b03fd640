"""Adapted models in the formats that other software loads."""

from speechbrain_sumra.export.hub import push
from speechbrain_sumra.export.to_ctranslate2 import export_ctranslate2
from speechbrain_sumra.export.to_huggingface import export_huggingface
from speechbrain_sumra.export.to_peft import export_peft

__all__ = ["export_ctranslate2", "export_huggingface", "export_peft", "push"]
