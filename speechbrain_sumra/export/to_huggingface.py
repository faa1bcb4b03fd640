"""A merged Hugging Face folder, which Transformers loads as any Whisper."""

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from speechbrain.utils.logger import get_logger
from transformers import (
    GenerationConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.export.folder import new_folder, write_record
from speechbrain_sumra.export.language import exported_code

logger = get_logger(__name__)

TABLE = "model.decoder.embed_tokens.weight"
NEW_ROW = "model.decoder.embed_tokens.new_token.weight"


def export_huggingface(
    model: AdaptedWhisper,
    folder: str | Path,
    as_language: str | None = None,
    metadata: dict | None = None,
) -> Path:
    """Write the merged model as a Hugging Face folder, all or nothing.

    ``pipeline("automatic-speech-recognition", folder)`` and
    ``WhisperForConditionalGeneration`` load it and need no further settings: its
    generation config holds language and task.  The row of a new language token
    takes the place of that of ``as_language``, which is then suppressed in
    hypotheses, because this row is one of the output projection, too.

    Arguments
    ---------
    model : AdaptedWhisper
        Any adapted model. It is merged meanwhile, and as before in the end.
    folder : str or Path
        A folder that is new or empty.
    as_language : str
        The one of Whisper's languages that a new language token is called by;
        see ``speechbrain_sumra.export.language``.
    metadata : dict
        Of the adapter file, for the model card.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError
        If the folder is not empty.
    ValueError
        If ``as_language`` is unusable, the model is merged already, or the base
        model's generation config lacks what Transformers needs.
    """
    code = exported_code(model, as_language)
    generation_config = _generation_config(model, code)
    warn_of_context(model)
    base = model.config.name_or_path
    prompt = {} if code is None else {"language": code, "task": model.task}
    with new_folder(folder) as new, _merged(model):
        plain = _plain_whisper(model, code)
        plain.generation_config = generation_config
        plain.save_pretrained(new)
        WhisperTokenizer.from_pretrained(base, **prompt).save_pretrained(new)
        normalizer = Path(base, "normalizer.json")
        if normalizer.is_file():  # part of the tokenizer, which does not save it
            shutil.copyfile(normalizer, new / normalizer.name)
        WhisperFeatureExtractor.from_pretrained(base).save_pretrained(new)
        write_record(new, model, "huggingface", code, metadata)
    return Path(folder)


def warn_of_context(model: AdaptedWhisper) -> None:
    """Say so if the model was trained on another encoder context than others read.

    Arguments
    ---------
    model : AdaptedWhisper
        What is exported.
    """
    if model.encoder_context != "full":
        logger.warning(
            "The model was trained with encoder_context: %s; other software reads "
            "30 s, whatever the length of the audio, so its texts may differ from "
            "those here.",
            model.encoder_context,
        )


@contextmanager
def _merged(model: AdaptedWhisper) -> Iterator[None]:
    model.merge()
    try:
        yield
    finally:
        model.unmerge()


def _plain_whisper(
    model: AdaptedWhisper, code: str | None
) -> WhisperForConditionalGeneration:
    """Transformers' Whisper with the weights of a merged model, not copied."""
    weights = model.model.state_dict()
    state = {f"model.{name}": value.float() for name, value in weights.items()}
    row = state.pop(NEW_ROW, None)
    if row is not None:
        state[TABLE] = state[TABLE].clone()
        state[TABLE][model.language_ids[code]] = row[0]
    state["proj_out.weight"] = state[TABLE]
    with torch.device("meta"):
        plain = WhisperForConditionalGeneration(copy.deepcopy(model.config))
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    return plain


def _generation_config(model: AdaptedWhisper, code: str | None) -> GenerationConfig:
    """The base model's, with this model's prompt."""
    file = Path(model.config.name_or_path, "generation_config.json")
    config = GenerationConfig.from_pretrained(file.parent) if file.is_file() else None
    if config is None or not hasattr(config, "no_timestamps_token_id"):
        raise ValueError(
            f"The base model {model.source} has no Whisper generation config, which "
            f"says what its special tokens are: expected it in {file}. Copy it there "
            "from the original model."
        )
    config.forced_decoder_ids = None  # the old way to set language and task
    if not model.is_multilingual:
        return config
    config.task = model.task
    config.task_to_id = {"transcribe": model.transcribe, "translate": model.translate}
    if code is None:
        # Else Transformers would put the language that it detects into the prompt.
        config.is_multilingual = False
        if hasattr(config, "lang_to_id"):
            del config.lang_to_id
        return config
    ids = model.language_ids
    config.is_multilingual, config.language = True, code
    config.lang_to_id = {f"<|{name}|>": i for name, i in ids.items()}
    if model.language_setting == "new":
        suppressed = {*(config.suppress_tokens or []), ids[code]}
        config.suppress_tokens = sorted(suppressed)
    return config
