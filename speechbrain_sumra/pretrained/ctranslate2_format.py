"""Reads CTranslate2 Whisper models, with the names of Hugging Face.

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

import struct

import numpy as np

FORMAT_VERSION = 6
SPEC_NAME = "WhisperSpec"
TYPE_NAMES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")

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
    data: bytes | bytearray | memoryview,
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
    speechbrain_sumra.pretrained.ctranslate2_format.CTranslate2FormatError: model.bin \
is not a CTranslate2 model of format version 6 (found 67324752)...
    """
    cursor = _Cursor(data)
    _read_header(cursor)
    variables = {}
    for _ in range(cursor.number("I", "the number of variables")):
        name = cursor.string("a variable's name")
        variables[name] = _read_array(cursor, name)
    for _ in range(cursor.number("I", "the number of aliases")):
        alias = cursor.string("an alias")
        variables[alias] = get_variable(variables, cursor.string(f"alias '{alias}'"))
    if cursor.offset != len(cursor.data):
        raise CTranslate2FormatError(
            f"model.bin has {len(cursor.data) - cursor.offset} bytes after its "
            "last field: it is corrupt. Copy it again."
        )
    return variables


def _read_header(cursor: _Cursor) -> None:
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


def get_variable(variables: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The variable of that name, or an error that names it."""
    if name not in variables:
        raise CTranslate2FormatError(
            f"model.bin has no variable '{name}', which every Whisper model has."
        )
    return variables[name]


def _widen(variables: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A variable as float32; int8 is q / scale, one scale for each row."""
    value = get_variable(variables, name)
    if value.dtype == np.int8:
        scale = get_variable(variables, f"{name}_scale").astype(np.float32)
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
        If a key projection has a bias, or output projection and embedding
        differ. What is missing or of another shape is found when the state is
        compared with the architecture.
    """
    modules = dict(_MODULES)
    for side in ("encoder", "decoder"):
        for i in range(count_layers(variables, side)):
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
            parts = np.array_split(value, len(targets))
            for target, part in zip(targets, parts, strict=True):
                state[f"model.{target}.{parameter}"] = np.ascontiguousarray(part)
    _drop_key_biases(state)
    _check_tied(variables, state)
    return state


def count_layers(variables: dict[str, np.ndarray], side: str) -> int:
    """The number of layers of the "encoder" or the "decoder"."""
    prefix = f"{side}/layer_"
    names = (name[len(prefix) :] for name in variables if name.startswith(prefix))
    return len({name.split("/")[0] for name in names if name[:1].isdigit()})


def _drop_key_biases(state: dict[str, np.ndarray]) -> None:
    for name in [n for n in state if n.endswith("k_proj.bias")]:
        if state.pop(name).any():
            raise CTranslate2FormatError(
                f"{name} is not zero, but Whisper's key projections have no bias."
            )


def _check_tied(variables: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
    name = "decoder/projection/weight"
    tied = variables.get(name) is get_variable(variables, "decoder/embeddings/weight")
    if name in variables and not tied:
        embedding = state["model.decoder.embed_tokens.weight"]
        if not np.array_equal(_widen(variables, name), embedding):
            raise CTranslate2FormatError(
                f"'{name}' differs from the token embedding; in Whisper they are "
                "one matrix."
            )
