"""Reads CTranslate2 Whisper models and writes them as Hugging Face folders.

CTranslate2 (the engine of faster-whisper) stores a model as one ``model.bin``,
all numbers little-endian:

====================  =====================================================
field                 layout
====================  =====================================================
header                uint32 format version, string spec name, uint32 spec
                      revision, uint32 number of variables
each variable         string name, uint8 rank, rank x uint32 sizes, uint8
                      type, uint32 number of bytes, the bytes
aliases               uint32 number, then pairs of strings (alias, variable)
string                uint16 length that counts the final NUL, the bytes
====================  =====================================================

The values are those of the Hugging Face model; only their places differ. Query,
key and value projections are stacked in one matrix, and the key projection has a
bias of zeros where Whisper has none.
"""

import json
import shutil
import struct
from pathlib import Path
from typing import Union

import numpy as np
from safetensors.numpy import save_file
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

FORMAT_VERSION = 6
SPEC_NAME = "WhisperSpec"
TYPE_NAMES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
TIMESTAMPS = tuple(f"<|{step * 0.02:.2f}|>" for step in range(1501))
FIRST_MULTILINGUAL_VOCABULARY = 51865  # English-only models have one token less

# CTranslate2 module -> the Hugging Face modules stacked in it.
_MODULES = {
    "encoder/conv1": ["encoder.conv1"],
    "encoder/conv2": ["encoder.conv2"],
    "encoder/layer_norm": ["encoder.layer_norm"],
    "decoder/layer_norm": ["decoder.layer_norm"],
    "decoder/embeddings": ["decoder.embed_tokens"],
    "encoder/position_encodings": ["encoder.embed_positions"],
    "decoder/position_encodings": ["decoder.embed_positions"],
}
_LAYER_MODULES = {
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
    ],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
_PARAMETERS = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "encodings": "weight",
}


class CTranslate2FormatError(ValueError):
    """A file is not a CTranslate2 Whisper model that can be converted."""


class _Cursor:
    """Reads forward through a buffer and never past its end."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.offset = 0

    def take(self, count: int, what: str) -> memoryview:
        """The next ``count`` bytes; ``what`` names them in the error."""
        end = self.offset + count
        if end > len(self.data):
            raise CTranslate2FormatError(
                f"model.bin is truncated: {what} needs bytes {self.offset} to "
                f"{end}, the file has {len(self.data)}. Copy it again."
            )
        taken = self.data[self.offset : end]
        self.offset = end
        return taken

    def number(self, code: str, what: str) -> int:
        """The next integer, ``code`` as in :mod:`struct`."""
        size = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{code}", self.take(size, what))[0]

    def string(self, what: str) -> str:
        """The next length-prefixed string, without its NUL."""
        raw = bytes(self.take(self.number("H", what), what))
        return raw.rstrip(b"\0").decode("utf-8", errors="replace")


def read_variables(
    data: Union[bytes, bytearray, memoryview],
) -> dict[str, np.ndarray]:
    """Parses a CTranslate2 Whisper ``model.bin``.

    Arguments
    ---------
    data : bytes-like
        The whole file. A memory map works and is not copied.

    Returns
    -------
    dict
        Name -> array, aliases included. Types are those of the file, but
        bfloat16, which numpy lacks, is widened to float32 (exact).

    Raises
    ------
    CTranslate2FormatError
        If the file is truncated, is not of format version 6, or holds another
        kind of model.

    Example
    -------
    >>> read_variables(b"PK\\x03\\x04, a zip file")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    speechbrain_sumra.ctranslate2_format.CTranslate2FormatError: model.bin is \
not a CTranslate2 model of format version 6 (found 67324752)...
    """
    cursor = _Cursor(data)
    _read_header(cursor)
    variables = {}
    for _ in range(cursor.number("I", "the number of variables")):
        name = cursor.string("a variable's name")
        variables[name] = _read_array(cursor, name)
    for _ in range(cursor.number("I", "the number of aliases")):
        alias = cursor.string("an alias")
        variables[alias] = _get(variables, cursor.string(f"alias '{alias}'"))
    if cursor.offset != len(cursor.data):
        raise CTranslate2FormatError(
            f"model.bin has {len(cursor.data) - cursor.offset} bytes after its "
            "last field: it is corrupt. Copy it again."
        )
    return variables


def _read_header(cursor: _Cursor):
    version = cursor.number("I", "the format version")
    if version != FORMAT_VERSION:
        raise CTranslate2FormatError(
            "model.bin is not a CTranslate2 model of format version "
            f"{FORMAT_VERSION} (found {version}). Convert the original model "
            "again with ct2-transformers-converter of CTranslate2 3 or later."
        )
    spec = cursor.string("the spec name")
    if spec != SPEC_NAME:
        raise CTranslate2FormatError(
            f"model.bin holds a '{spec}' model, expected '{SPEC_NAME}': it is "
            "not a Whisper model."
        )
    cursor.number("I", "the spec revision")


def _read_array(cursor: _Cursor, name: str) -> np.ndarray:
    rank = cursor.number("B", f"the rank of '{name}'")
    shape = [cursor.number("I", f"the shape of '{name}'") for _ in range(rank)]
    type_id = cursor.number("B", f"the type of '{name}'")
    if type_id >= len(TYPE_NAMES):
        raise CTranslate2FormatError(
            f"'{name}' has the unknown type {type_id}, expected 0 to "
            f"{len(TYPE_NAMES) - 1} ({', '.join(TYPE_NAMES)})."
        )
    type_name = TYPE_NAMES[type_id]
    dtype = np.dtype("uint16" if type_name == "bfloat16" else type_name)
    size = cursor.number("I", f"the size of '{name}'")
    raw = cursor.take(size, f"'{name}'")
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size != expected:
        raise CTranslate2FormatError(
            f"'{name}' of shape {shape} and type {type_name} needs {expected} "
            f"bytes, the file gives {size}: it is corrupt."
        )
    array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
    if type_name == "bfloat16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _get(variables: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in variables:
        raise CTranslate2FormatError(
            f"model.bin has no variable '{name}', which every Whisper model has."
        )
    return variables[name]


def _widen(variables: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A variable as float32; int8 is q / scale, one scale for each row."""
    value = _get(variables, name)
    if value.dtype == np.int8:
        scale = _get(variables, f"{name}_scale").astype(np.float32)
        if scale.shape != value.shape[:1]:
            raise CTranslate2FormatError(
                f"'{name}' of shape {list(value.shape)} needs one scale for each "
                f"row, found scales of shape {list(scale.shape)}."
            )
        return value.astype(np.float32) / scale.reshape(-1, *[1] * (value.ndim - 1))
    if value.dtype.kind != "f":
        raise CTranslate2FormatError(
            f"'{name}' is stored as {value.dtype}; only float32, float16, "
            "bfloat16 and int8 can be converted. Convert the original model "
            "again with one of these as --quantization."
        )
    return value.astype(np.float32)


def to_state_dict(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames and unstacks variables into a Hugging Face state dict.

    Arguments
    ---------
    variables : dict
        What :func:`read_variables` returned.

    Returns
    -------
    dict
        The float32 state dict of ``WhisperForConditionalGeneration``, without
        the output projection, which is the token embedding.

    Raises
    ------
    CTranslate2FormatError
        If a variable is missing, or has no counterpart in Whisper.
    """
    modules = dict(_MODULES)
    for side in ("encoder", "decoder"):
        for i in range(_count_layers(variables, side)):
            for module, targets in _LAYER_MODULES.items():
                modules[f"{side}/layer_{i}/{module}"] = [
                    f"{side}.layers.{i}.{target}" for target in targets
                ]
    state = {}
    for module, targets in modules.items():
        for source, parameter in _PARAMETERS.items():
            if f"{module}/{source}" not in variables:
                continue
            value = _widen(variables, f"{module}/{source}")
            for target, part in zip(targets, np.array_split(value, len(targets))):
                state[f"model.{target}.{parameter}"] = np.ascontiguousarray(part)
    _drop_key_biases(state)
    _check_tied(variables, state)
    return state


def _count_layers(variables: dict[str, np.ndarray], side: str) -> int:
    prefix = f"{side}/layer_"
    names = (name[len(prefix) :] for name in variables if name.startswith(prefix))
    return len({name.split("/")[0] for name in names if name[:1].isdigit()})


def _drop_key_biases(state: dict[str, np.ndarray]):
    for name in [n for n in state if n.endswith("k_proj.bias")]:
        if state.pop(name).any():
            raise CTranslate2FormatError(
                f"{name} is not zero, but Whisper's key projections have no bias."
            )


def _check_tied(variables, state):
    name = "decoder/projection/weight"
    tied = variables.get(name) is _get(variables, "decoder/embeddings/weight")
    if name in variables and not tied:
        embedding = state["model.decoder.embed_tokens.weight"]
        if not np.array_equal(_widen(variables, name), embedding):
            raise CTranslate2FormatError(
                f"'{name}' differs from the token embedding; in Whisper they are "
                "one matrix."
            )


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
    return tokenizer


def _check_tokenizer(tokenizer, metadata: Path, rows: int):
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
    names = json.loads(listed.read_text(encoding="utf-8"))
    ids = range(min(len(names), len(tokenizer)))
    for i, (name, token) in enumerate(
        zip(names, tokenizer.convert_ids_to_tokens(ids))
    ):
        # One token, renamed by OpenAI.
        if name != token and {name, token} != {"<|nospeech|>", "<|nocaptions|>"}:
            raise CTranslate2FormatError(
                f"{wrong}: token {i} is '{token}' there and '{name}' in "
                "vocabulary.json."
            )


def _whisper_config(variables, state, tokenizer, stored: dict):
    from transformers import WhisperConfig

    positions = "model.{}.embed_positions.weight"
    eos = tokenizer.eos_token_id
    return WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        dtype="float32",
        vocab_size=len(tokenizer),
        num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
        d_model=state["model.decoder.embed_tokens.weight"].shape[1],
        encoder_layers=_count_layers(variables, "encoder"),
        decoder_layers=_count_layers(variables, "decoder"),
        encoder_attention_heads=int(_get(variables, "encoder/num_heads")),
        decoder_attention_heads=int(_get(variables, "decoder/num_heads")),
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


def _check_architecture(state, config):
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
        options["lang_to_id"] = dict(zip(tokenizer.convert_ids_to_tokens(ids), ids))
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
