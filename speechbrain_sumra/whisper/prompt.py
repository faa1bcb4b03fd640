"""What a hypothesis starts with: which language's token stands in the prompt."""

from speechbrain.integrations.huggingface.whisper import Whisper
from speechbrain.utils.logger import get_logger
from transformers.models.whisper.tokenization_whisper import (
    LANGUAGES,
    TO_LANGUAGE_CODE,
)

from speechbrain_sumra.whisper.language_token import ExtendedEmbedding, fix_prompt

logger = get_logger(__name__)


class PromptedWhisper(Whisper):
    """SpeechBrain's ``Whisper`` with any language, or none, in its prompt."""

    def _set_language(self, language: str, locale: str | None) -> None:
        """Give the tokenizer, and the model if need be, the language token."""
        self.language_setting = language
        self.language = None
        if language == "none":
            prompt_language = None
        elif language == "own":
            prompt_language = self._only_language(locale)
        elif not self.is_multilingual:
            raise ValueError(
                f"{self.source} is an English-only Whisper without language "
                f'tokens: expected language "none", got {language!r}.'
            )
        elif language == "new":
            if not locale:
                raise ValueError('language "new" needs a locale to name it.')
            prompt_language = self._add_language(locale)
        else:
            prompt_language = self.language_token(language)
            self.language = language
        # The parent class falls back to English; "no language" is a choice.
        self.tokenizer.language = self.language
        if self.is_multilingual:
            fix_prompt(self.tokenizer, self.prompt_with(prompt_language))

    def prompt_with(self, language_token: int | None) -> list[int]:
        """Start, the language's token or none, task, no timestamps."""
        return [
            self.bos,
            *([] if language_token is None else [language_token]),
            self.transcribe if self.task == "transcribe" else self.translate,
            self.no_timestamps,
        ]

    def prompt_of(self, locale: str) -> list[int]:
        """Prompt of an utterance of this locale, e.g. "sv-SE".

        Raises
        ------
        ValueError
            With language "own", if Whisper does not have the locale's language.
        """
        if self.language_setting != "own":
            return self.prompt
        return self.prompt_with(self.language_token(locale.split("-")[0]))

    def language_token(self, language: str) -> int:
        """Token of one of Whisper's own languages, by name or code.

        Raises
        ------
        ValueError
            If it is none of them; they are listed.
        """
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        token = self.tokenizer.convert_tokens_to_ids(f"<|{code}|>")
        if code not in LANGUAGES or token not in self.language_tokens:
            raise ValueError(
                f"Unknown language {language!r}: expected 'none' (no language "
                "token), 'new' (a new token for the locale), 'own' (the token of each "
                "utterance's locale), or one of this Whisper's own: "
                f"{', '.join(sorted(self.language_ids))}."
            )
        return token

    def _only_language(self, locale: str | None) -> int | None:
        """Token of the language of all utterances, if there is one and it is known."""
        code = (locale or "").split("-")[0]
        several = "+" in (locale or "")
        return None if several else self.language_ids.get(code)

    def _add_language(self, locale: str) -> int:
        """Append a token for the locale; its embedding is one trainable row."""
        decoder = self.model.decoder
        # A locale may share its name with a token that is there already.
        name = f"<|{locale}|>"
        if self.tokenizer.convert_tokens_to_ids(name) in self.language_tokens:
            name = f"<|new:{locale}|>"
            logger.warning(
                "Whisper knows the language %s: --language %s would use its own "
                "token instead of a new one.",
                locale,
                locale,
            )
        known = decoder.embed_tokens.weight[list(self.language_tokens)]
        decoder.embed_tokens = ExtendedEmbedding(
            decoder.embed_tokens, known.detach().mean(dim=0)
        )
        token = decoder.embed_tokens.new_id
        self.tokenizer.add_special_tokens({"extra_special_tokens": [name]})
        found = self.tokenizer.convert_tokens_to_ids(name)
        if found != token:
            raise ValueError(
                f"The tokenizer gives {name} the id {found}, the model {token}: "
                "the tokenizer's files do not belong to this model."
            )
        return token

    @property
    def language_tokens(self) -> range:
        """Ids of Whisper's own language tokens (99, or 100 from large-v3)."""
        return range(self.bos + 1, self.translate)

    @property
    def language_ids(self) -> dict[str, int]:
        """The id of each of them, by the language's code."""
        ids = list(self.language_tokens)
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        return {token.strip("<|>"): i for token, i in zip(tokens, ids, strict=True)}

    @property
    def prompt(self) -> list[int]:
        """Token ids that start every hypothesis, e.g. start, language, task."""
        return list(self.tokenizer.prefix_tokens)
