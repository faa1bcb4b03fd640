"""A CTranslate2 folder, which faster-whisper loads."""

from pathlib import Path

from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.export.extras import import_extra
from speechbrain_sumra.export.folder import new_folder, write_record
from speechbrain_sumra.export.language import required_code
from speechbrain_sumra.export.to_huggingface import export_huggingface

QUANTIZATIONS = (
    "float32",
    "float16",
    "bfloat16",
    "int16",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
)
# What faster-whisper reads beside the model.
COPIED = ["tokenizer.json", "preprocessor_config.json"]


def export_ctranslate2(
    model: AdaptedWhisper,
    folder: str | Path,
    as_language: str | None = None,
    quantization: str = "float32",
    metadata: dict | None = None,
) -> Path:
    """Write the merged model as a CTranslate2 folder, all or nothing.

    The folder is what CTranslate2's own converter makes of the one that
    ``export_huggingface`` writes.

    Arguments
    ---------
    model : AdaptedWhisper
        Any adapted model; as for ``export_huggingface``.
    folder : str or Path
        A folder that is new or empty.
    as_language : str
        As for ``export_huggingface``.
    quantization : str
        How weights are stored: "float32" (default, exact), "float16" (half the
        size), "int8" (a quarter), or another of CTranslate2's.
    metadata : dict
        Of the adapter file, for the model card.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    MissingExtraError
        If CTranslate2 is not installed.
    FileExistsError
        If the folder is not empty.
    ValueError
        If a setting is unusable, or a multilingual model was trained without a
        language token.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"Unknown quantization {quantization!r}; expected one of "
            f"{', '.join(QUANTIZATIONS)}."
        )
    converters = import_extra("ctranslate2.converters")
    code = required_code(model, as_language, "CTranslate2's users")
    with new_folder(folder) as new:
        source = export_huggingface(model, new.parent / "huggingface", code)
        converter = converters.TransformersConverter(str(source), copy_files=COPIED)
        converter.convert(str(new), quantization=quantization, force=True)
        write_record(new, model, "ctranslate2", code, metadata)
    return Path(folder)
