"""Writes a CTranslate2 Whisper model as a Hugging Face folder.

CTranslate2 keeps little of a model's configuration, so it is read off the shapes
of the weights and the ids of the tokens.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.pretrained.ctranslate2_format import (
    CTranslate2FormatError,
    count_layers,
    get_variable,
    read_variables,
    to_state_dict,
)

logger = get_logger(__name__)

TIMESTAMPS = tuple(f"<|{step * 0.02:.2f}|>" for step in range(1501))
FIRST_MULTILINGUAL_VOCABULARY = 51865  # English-only models have one token less


def convert_to_huggingface(data, metadata: Path, output: Path) -> None:
    """Writes a CTranslate2 Whisper model as a Hugging Face folder.

    The weights are written as float32 whatever the source has: transformers 5
    loads a model in the type that is stored, and training needs float32.

    Arguments
    ---------
    data : bytes-like
        The contents of ``model.bin``.
    metadata : Path
        Folder with ``tokenizer.json`` and, where there are any, CTranslate2's
        ``config.json`` (tokens to suppress, alignment heads) and
        ``vocabulary.json`` (checked against the tokenizer).
    output : Path
        Existing folder to write to.

    Raises
    ------
    CTranslate2FormatError
        If the model cannot be converted, or ``tokenizer.json`` is missing or
        belongs to another model.
    """
    from transformers import WhisperFeatureExtractor

    variables = read_variables(data)
    state = to_state_dict(variables)
    embedding = state["model.decoder.embed_tokens.weight"]
    tokenizer = _write_tokenizer(metadata, output, len(embedding))
    if len(tokenizer) < len(embedding):
        logger.info(
            "%d padding rows of the embedding, which stand for no token, are cut",
            len(embedding) - len(tokenizer),
        )
        state["model.decoder.embed_tokens.weight"] = embedding[: len(tokenizer)]
    file = metadata / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    config = _whisper_config(variables, state, tokenizer, stored)
    _check_architecture(state, config)
    config.save_pretrained(output)
    _generation_config(config, tokenizer, stored).save_pretrained(output)
    WhisperFeatureExtractor(
        feature_size=config.num_mel_bins,
        chunk_length=config.max_source_positions // 50,  # 50 states a second
    ).save_pretrained(output)
    save_file(state, output / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(metadata: Path, output: Path, rows: int):
    """Copies and completes the tokenizer, so that its ids are the model's."""
    from transformers import AddedToken, WhisperTokenizer

    source = metadata / "tokenizer.json"
    if not source.is_file():
        raise CTranslate2FormatError(
            f"'{metadata}' has no tokenizer.json, which a Hugging Face folder "
            "needs. Copy it there from the original model (for example "
            "openai/whisper-base), or convert that one again with "
            "ct2-transformers-converter --copy_files tokenizer.json."
        )
    added = json.loads(source.read_text(encoding="utf-8"))["added_tokens"]
    added.sort(key=lambda token: token["id"])
    special = [token["content"] for token in added if token["special"]]
    # Read from the new folder: beside CTranslate2's config.json, which
    # transformers would take for its own, a tokenizer is not found.
    shutil.copyfile(source, output / "tokenizer.json")
    tokenizer = WhisperTokenizer.from_pretrained(
        output,
        pad_token="<|endoftext|>",
        extra_special_tokens=special,
        model_max_length=1024,
    )
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in TIMESTAMPS if token not in vocabulary]
    tokenizer.add_tokens(
        [
            AddedToken(token, normalized=False, special=False)
            for token in missing[: max(0, rows - len(tokenizer))]
        ]
    )
    _check_tokenizer(tokenizer, metadata, rows)
    tokenizer.save_pretrained(output)
    # CTranslate2 folders lack the table of British and American spellings.
    # Without any, Whisper's English normaliser (which SpeechBrain's recipes
    # call) fails; with an empty one it only leaves spellings as they are.
    (output / "normalizer.json").write_text("{}\n", encoding="utf-8")
    return tokenizer


def _check_tokenizer(tokenizer, metadata: Path, rows: int) -> None:
    wrong = f"tokenizer.json in '{metadata}' belongs to another model"
    if len(tokenizer) > rows:
        raise CTranslate2FormatError(
            f"{wrong}: it has {len(tokenizer)} tokens, the model {rows}."
        )
    vocabulary = tokenizer.get_vocab()
    after = [vocabulary.get("<|notimestamps|>"), vocabulary.get("<|0.00|>")]
    if after[0] is None or after[1] not in (None, after[0] + 1):
        raise CTranslate2FormatError(
            f"{wrong}: <|0.00|> must come right after <|notimestamps|>, found "
            f"ids {after[1]} and {after[0]}."
        )
    listed = metadata / "vocabulary.json"
    if not listed.is_file():
        return
    names = json.loads(listed.read_text(encoding="utf-8"))[: len(tokenizer)]
    tokens = tokenizer.convert_ids_to_tokens(range(len(names)))
    for i, (name, token) in enumerate(zip(names, tokens, strict=True)):
        # One token, renamed by OpenAI.
        if name != token and {name, token} != {"<|nospeech|>", "<|nocaptions|>"}:
            raise CTranslate2FormatError(
                f"{wrong}: token {i} is '{token}' there and '{name}' in "
                "vocabulary.json."
            )


def _whisper_config(
    variables: dict[str, np.ndarray],
    state: dict[str, np.ndarray],
    tokenizer,
    stored: dict,
):
    from transformers import WhisperConfig

    positions = "model.{}.embed_positions.weight"
    eos = tokenizer.eos_token_id
    return WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        dtype="float32",
        vocab_size=len(tokenizer),
        num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
        d_model=state["model.decoder.embed_tokens.weight"].shape[1],
        encoder_layers=count_layers(variables, "encoder"),
        decoder_layers=count_layers(variables, "decoder"),
        encoder_attention_heads=int(get_variable(variables, "encoder/num_heads")),
        decoder_attention_heads=int(get_variable(variables, "decoder/num_heads")),
        encoder_ffn_dim=len(state["model.encoder.layers.0.fc1.weight"]),
        decoder_ffn_dim=len(state["model.decoder.layers.0.fc1.weight"]),
        max_source_positions=len(state[positions.format("encoder")]),
        max_target_positions=len(state[positions.format("decoder")]),
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=eos,
        decoder_start_token_id=_id(tokenizer, "<|startoftranscript|>"),
        suppress_tokens=stored.get("suppress_ids"),
        begin_suppress_tokens=stored.get("suppress_ids_begin"),
    )


def _check_architecture(state: dict[str, np.ndarray], config) -> None:
    """Every parameter present with its shape: none would be left random."""
    import torch
    from transformers import WhisperForConditionalGeneration

    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    expected = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if name != "proj_out.weight"
    }
    found = {name: value.shape for name, value in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CTranslate2FormatError(
                f"model.bin does not make up a Whisper model: {name} should have "
                f"shape {expected.get(name)}, found {found.get(name)}."
            )


def _generation_config(config, tokenizer, stored: dict):
    from transformers import GenerationConfig

    options = {
        "suppress_tokens": config.suppress_tokens,
        "begin_suppress_tokens": config.begin_suppress_tokens,
        "alignment_heads": stored.get("alignment_heads"),
    }
    multilingual = config.vocab_size >= FIRST_MULTILINGUAL_VOCABULARY
    if multilingual:
        first, last = config.decoder_start_token_id, _id(tokenizer, "<|translate|>")
        ids = range(first + 1, last)
        languages = tokenizer.convert_ids_to_tokens(ids)
        options["lang_to_id"] = dict(zip(languages, ids, strict=True))
        options["task_to_id"] = {
            task: _id(tokenizer, f"<|{task}|>") for task in ("transcribe", "translate")
        }
    return GenerationConfig(
        is_multilingual=multilingual,
        max_length=config.max_target_positions,
        max_initial_timestamp_index=50,
        no_timestamps_token_id=_id(tokenizer, "<|notimestamps|>"),
        prev_sot_token_id=_id(tokenizer, "<|startofprev|>"),
        return_timestamps=False,
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        **{name: value for name, value in options.items() if value is not None},
    )


def _id(tokenizer, token: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise CTranslate2FormatError(
            f"tokenizer.json has no token {token}: it is not Whisper's."
        )
    return vocabulary[token]
