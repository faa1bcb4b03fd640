"""Which of Whisper's own language tokens an exported model answers to.

Other software knows Whisper's languages and no others, and its prompt always holds
one of them.  So the trained row of a new token takes the place of one of theirs.
"""

from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from speechbrain_sumra.adapted import AdaptedWhisper

# Latin: nobody's mother tongue, in every multilingual Whisper, and treated by no
# software in a way of its own, as languages without spaces and English are.
DEFAULT_CODE = "la"


def new_locale(model: AdaptedWhisper) -> str | None:
    """The locale of a new language token, or None without such a token.

    Arguments
    ---------
    model : AdaptedWhisper
        An adapted model.
    """
    if model.language_setting != "new":
        return None
    new_id = model.model.decoder.embed_tokens.new_id
    token = model.tokenizer.convert_ids_to_tokens(new_id)
    return token.strip("<|>").removeprefix("new:")


def exported_code(model: AdaptedWhisper, as_language: str | None = None) -> str | None:
    """The code that an exported model is to be called with.

    Arguments
    ---------
    model : AdaptedWhisper
        What is exported.
    as_language : str
        Wanted for a new language token: one of Whisper's codes or names. Default:
        the locale's own code if Whisper has it, else ``DEFAULT_CODE``.

    Returns
    -------
    str
        None if the model was trained without a language token.

    Raises
    ------
    ValueError
        If Whisper has no such language, or the model cannot answer to it.
    """
    asked = None
    if as_language is not None:
        asked = TO_LANGUAGE_CODE.get(as_language.lower(), as_language.lower())
    if model.language_setting == "none":
        if asked is not None:
            raise ValueError(
                'The model was trained without a language token (language "none"): '
                f"it cannot answer to {as_language!r}. Leave as_language out."
            )
        return None
    ids = model.language_ids
    if asked is not None and asked not in ids:
        raise ValueError(
            f"Unknown language {as_language!r}: expected one of this Whisper's own, "
            f"{', '.join(sorted(ids))}."
        )
    if model.language_setting == "new":
        own = new_locale(model).split("-")[0].lower()
        return asked or (own if own in ids else DEFAULT_CODE)
    codes = {i: code for code, i in ids.items()}
    if model.prompt[1] not in codes:
        raise ValueError(
            "The model was trained on several languages, each with its own token "
            '(language "own"), and an exported one answers to one language. Train it '
            "with language: new, or on one locale."
        )
    code = codes[model.prompt[1]]
    if asked not in (None, code):
        raise ValueError(
            f"The model was trained with the language token of {code!r} and answers "
            f"to no other: expected as_language {code!r} or none, got {as_language!r}."
        )
    return code


def required_code(
    model: AdaptedWhisper, as_language: str | None, consumer: str
) -> str | None:
    """As ``exported_code``, for consumers that cannot do without.

    Arguments
    ---------
    model : AdaptedWhisper
        What is exported.
    as_language : str
        As there.
    consumer : str
        Who always puts a language into the prompt.

    Returns
    -------
    str
        None for an English-only Whisper, which has no language tokens.

    Raises
    ------
    ValueError
        Also if a multilingual model was trained without a language token.
    """
    code = exported_code(model, as_language)
    if code is None and model.is_multilingual:
        raise ValueError(
            'The model was trained without a language token (language "none"), and '
            f"{consumer} always put one into the prompt: the text would be another. "
            "Train with language: new or one of Whisper's languages, or export to "
            "Hugging Face, whose generate can do without."
        )
    return code
