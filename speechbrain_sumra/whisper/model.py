"""SpeechBrain's Whisper with per-utterance features and any language."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from speechbrain.integrations.huggingface.whisper import N_SAMPLES, SAMPLE_RATE
from torch.nn import functional as F

from speechbrain_sumra.fingerprint import fingerprint_weights
from speechbrain_sumra.pretrained import fetch_whisper
from speechbrain_sumra.whisper.attention import ATTENTION
from speechbrain_sumra.whisper.cross_attention import CrossAttention
from speechbrain_sumra.whisper.loss import project, projected_cross_entropy
from speechbrain_sumra.whisper.prompt import PromptedWhisper

ENCODER_CONTEXTS = ("full", "clip")
SAMPLES_PER_STATE = 320  # 20 ms
MAX_STATES = N_SAMPLES // SAMPLES_PER_STATE
CLIP_MARGIN = 4.0  # seconds of silence after an utterance


class Whisper(PromptedWhisper):
    """SpeechBrain's ``Whisper``, for languages that Whisper does not know.

    What differs from the parent: ``source`` may be anything that
    ``fetch_whisper`` finds; log-mel features are clamped per utterance, as in
    Whisper itself, so that a transcription does not depend on its batch;
    audio over 30 s is refused instead of cut; the encoder is frozen and runs
    without gradients; weights are float32 whatever precision they are stored
    in; and the prompt may hold a language that Whisper does not have.

    Arguments
    ---------
    source : str
        A hub name ("openai/whisper-small"), a Hugging Face folder or a
        CTranslate2 folder.
    save_path : str
        Where downloads and conversions are kept.
    language : str
        The language token of the decoder's prompt: "none" (no such token,
        the default), "new" (a token of its own, ``<|locale|>``, whose
        embedding starts as the mean of the existing languages' and can be
        trained), "own" (for each utterance the one of Whisper's languages that its
        locale names), or one of Whisper's languages by name or code ("polish", "pl").
    locale : str
        Names the new token; needed with ``language="new"``.
    task : str
        "transcribe" or "translate".
    freeze_encoder : bool
        Run the encoder without gradients. Default: True.
    encoder_context : str
        "full": the encoder reads 30 s, as Whisper was trained: the utterance and
        silence. "clip": the utterance and ``CLIP_MARGIN`` of silence. The decoder
        attends to all of it either way.
    adapted_encoder_layers : int
        How many of the encoder's last layers are not frozen but adapted. ``encode``
        leaves them to ``finish_encoding``. Default: 0.
    **kwargs
        Further arguments of the parent class.

    Raises
    ------
    ValueError
        If language, encoder_context or adapted_encoder_layers is not one of the
        accepted values.
    """

    def __init__(
        self,
        source: str,
        save_path: str,
        language: str = "none",
        locale: str | None = None,
        task: str = "transcribe",
        freeze_encoder: bool = True,
        encoder_context: str = "full",
        adapted_encoder_layers: int = 0,
        **kwargs,
    ):
        if encoder_context not in ENCODER_CONTEXTS:
            raise ValueError(
                f"Unknown encoder_context {encoder_context!r}; expected one of "
                f"{', '.join(ENCODER_CONTEXTS)}."
            )
        self.source = str(source)
        self.encoder_context = encoder_context
        super().__init__(
            str(fetch_whisper(self.source, save_path)),
            str(save_path),
            task=task,
            freeze_encoder=freeze_encoder,
            **kwargs,
        )
        layers = len(self.model.encoder.layers)
        if not 0 <= adapted_encoder_layers <= layers:
            raise ValueError(
                f"adapted_encoder_layers is {adapted_encoder_layers}, but the encoder "
                f"has {layers} layers: expected 0 (all are frozen) to {layers}."
            )
        self.adapted_encoder_layers = adapted_encoder_layers
        self.model.float()
        self.model.set_attn_implementation(ATTENTION)
        self.base_fingerprint = fingerprint_weights(self.model)
        if not self.encoder_only:
            self._set_language(language, locale)
            self._states_mask = None
            self._converted_projection = None
            for layer in self.model.decoder.layers:
                attention = CrossAttention.of(layer.encoder_attn)
                attention.register_forward_pre_hook(self._mask_states, with_kwargs=True)

    def log_mel_spectrogram(
        self, audio: torch.Tensor, padding: int = 0
    ) -> torch.Tensor:
        """Log-mel features as Whisper computes them, for each utterance alone.

        ``log10`` of the mel spectrogram, clamped at 8 below the maximum *of
        the utterance* (the parent class takes the maximum of the batch),
        then ``(x + 4) / 4``.

        Arguments
        ---------
        audio : torch.Tensor
            Waveforms at 16 kHz, shape (batch, samples).
        padding : int
            Zeros to append, in samples.

        Returns
        -------
        torch.Tensor
            Features, shape (batch, mel bands, samples / 160).
        """
        audio = F.pad(audio, (0, padding))
        # Under autocast the product with the filters would lose precision.
        with torch.autocast(audio.device.type, enabled=False):
            stft = torch.stft(
                audio.float(),
                self._n_fft,
                self._hop_length,
                window=torch.hann_window(self._n_fft, device=audio.device),
                return_complex=True,
            )
            mel = self._mel_filters @ stft[..., :-1].abs().square()
            log_mel = mel.clamp_min(1e-10).log10()
            floor = log_mel.amax(dim=(-2, -1), keepdim=True) - 8.0
            return (torch.maximum(log_mel, floor) + 4.0) / 4.0

    def pad_or_trim(
        self, array: torch.Tensor, length: int = N_SAMPLES, axis: int = -1
    ) -> torch.Tensor:
        """Pad waveforms to 30 s; longer ones are refused, not cut.

        Cut are no more than 10 ms, by which a file may be longer than its duration says
        when it is rounded or resampled.

        Arguments
        ---------
        array : torch.Tensor
            Waveforms at 16 kHz.
        length : int
            Samples to pad to.
        axis : int
            The axis of time.

        Returns
        -------
        torch.Tensor
            The padded waveforms.

        Raises
        ------
        ValueError
            If the waveforms are longer than that.
        """
        if array.shape[axis] > length + SAMPLE_RATE // 100:
            raise ValueError(
                f"Whisper reads at most {length / SAMPLE_RATE:.0f} s at once, "
                f"got {array.shape[axis] / SAMPLE_RATE:.1f} s. Leave such "
                "clips out (max_duration) or split them."
            )
        return super().pad_or_trim(array, length, axis)

    def encode(self, wav: torch.Tensor, context: str | None = None) -> torch.Tensor:
        """States of a batch after the encoder's frozen layers.

        These are all but the last ``adapted_encoder_layers``; where there are such,
        ``finish_encoding`` makes of them what the decoder reads. Without gradients if
        the encoder is frozen.

        Arguments
        ---------
        wav : torch.Tensor
            Waveforms at 16 kHz, at most 30 s, shape (batch, samples).
        context : str
            "full" or "clip". Default: the model's ``encoder_context``.

        Returns
        -------
        torch.Tensor
            States, shape (batch, frames, width), as many frames as
            ``count_states`` says.
        """
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and not self.freeze_encoder
        ):
            if (context or self.encoder_context) == "full":
                mel = self._get_mel(wav)
                if not self.adapted_encoder_layers:
                    return self.forward_encoder(mel)
            else:
                samples = _clip_states(wav.shape[1]) * SAMPLES_PER_STATE
                mel = self.log_mel_spectrogram(self.pad_or_trim(wav, samples))
            return self._encode_part(mel)

    def finish_encoding(
        self, states: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run the encoder's adapted layers, if there are any, on what ``encode`` gave.

        Arguments
        ---------
        states : torch.Tensor
            What ``encode`` returned, shape (batch, frames, width).
        lengths : torch.Tensor
            How many of the frames belong to each utterance, shape (batch,); the
            others are padding. Default: all.

        Returns
        -------
        torch.Tensor
            The encoder's output, of the same shape.
        """
        number = self.adapted_encoder_layers
        if not number:
            return states
        mask = _padding_mask(lengths, states.shape[1])
        for layer in self.model.encoder.layers[-number:]:
            states = layer(states, mask)
        return self.model.encoder.layer_norm(states)

    def count_states(self, samples: int) -> int:
        """Encoder states of an utterance of so many samples.

        Example
        -------
        >>> from types import SimpleNamespace
        >>> Whisper.count_states(SimpleNamespace(encoder_context="clip"), 16000)
        250
        """
        return MAX_STATES if self.encoder_context == "full" else _clip_states(samples)

    @property
    def encoder_settings(self) -> str:
        """What encoder states depend on, beside the model and the audio."""
        context, adapted = self.encoder_context, self.adapted_encoder_layers
        settings = context if context == "full" else f"{context}{CLIP_MARGIN}"
        return f"{settings}_without_last_{adapted}" if adapted else settings

    def _encode_part(self, mel: torch.Tensor) -> torch.Tensor:
        """The encoder's frozen layers, on any length; its own forward wants 30 s."""
        encoder, adapted = self.model.encoder, self.adapted_encoder_layers
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers[: len(encoder.layers) - adapted]:
            hidden = layer(hidden, None)
        return hidden if adapted else encoder.layer_norm(hidden)

    @contextmanager
    def _attending(self, lengths: torch.Tensor | None, total: int) -> Iterator[None]:
        """Let the decoder attend to each utterance's own states alone."""
        self._states_mask = _padding_mask(lengths, total)
        try:
            yield
        finally:
            self._states_mask = None

    def _mask_states(self, module, args, kwargs):
        """Transformers' decoder passes no mask on to its cross-attention."""
        if self._states_mask is not None:
            kwargs = {**kwargs, "attention_mask": self._states_mask}
        return args, kwargs

    def forward(
        self,
        wav: torch.Tensor | None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_states: torch.Tensor | None = None,
        state_lengths: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ):
        """One pass of encoder and decoder, or of the decoder alone.

        Arguments
        ---------
        wav : torch.Tensor
            Waveforms, shape (batch, samples); not read if ``encoder_states``
            are given.
        decoder_input_ids : torch.Tensor
            Prompt and text tokens, shape (batch, tokens).
        encoder_states : torch.Tensor
            What ``encode`` returned earlier for these waveforms.
        state_lengths : torch.Tensor
            How many of the states belong to each utterance, shape (batch,);
            the others are padding. Default: all.
        positions : torch.Tensor
            Where logits are wanted, bool, shape (batch, tokens). Most of the
            work after the decoder is for them. Default: everywhere.
        targets : torch.Tensor
            The token that follows each of those positions, shape (number,).
            Then their mean cross-entropy takes the place of the logits.
        label_smoothing : float
            Of that cross-entropy: see ``projected_cross_entropy``.

        Returns
        -------
        encoder_states : torch.Tensor
            The encoder's output, shape (batch, frames, width).
        logits : torch.Tensor
            Shape (batch, tokens, vocabulary), or (number of positions,
            vocabulary), or a scalar; not with ``encoder_only``.
        attention : torch.Tensor
            Of the last layer, with ``output_attentions``; not with
            ``encoder_only``.
        """
        if encoder_states is None:
            encoder_states = self.encode(wav)
        encoder_states = self.finish_encoding(encoder_states, state_lengths)
        if self.encoder_only:
            return encoder_states
        last = encoder_states[-1] if self.output_all_hiddens else encoder_states
        if torch.is_autocast_enabled(last.device.type):
            # Once, not in each layer.
            last = last.to(torch.get_autocast_dtype(last.device.type))
        # A cache of keys and values is only of use in decoding.
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze),
            self._attending(state_lengths, last.shape[1]),
        ):
            if positions is not None:
                output = self.model.decoder(
                    input_ids=decoder_input_ids,
                    encoder_hidden_states=last,
                    use_cache=False,
                )
                chosen = output.last_hidden_state[positions]
                if targets is None:
                    return encoder_states, self._project(chosen), None
                weight = self._projection(chosen)
                loss = projected_cross_entropy(chosen, weight, targets, label_smoothing)
                return encoder_states, loss, None
            logits, attention, _ = self.forward_decoder(
                last, decoder_input_ids, use_cache=False
            )
        return encoder_states, logits, attention

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of decoder states, float32."""
        weight = self._projection(hidden)
        logits = project(hidden.flatten(0, -2).to(weight.dtype), weight)
        return logits.float().contiguous().unflatten(0, hidden.shape[:-1])

    def _projection(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output projection in autocast's precision, converted once if frozen."""
        weight = self.model.decoder.embed_tokens.weight
        dtype, device = hidden.dtype, hidden.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        if weight.dtype == dtype or weight.requires_grad:
            return weight.to(dtype)
        kept = self._converted_projection
        if kept is None or kept.dtype != dtype or kept.device != weight.device:
            kept = self._converted_projection = weight.detach().to(dtype)
        return kept

    def next_logits(
        self,
        encoder_states: torch.Tensor,
        tokens: torch.Tensor,
        cache=None,
        state_lengths: torch.Tensor | None = None,
        positions: int = 1,
    ):
        """Logits of the tokens that follow, in decoding token by token.

        Arguments
        ---------
        encoder_states : torch.Tensor
            The encoder's output (after ``finish_encoding``), shape (batch, frames,
            width).
        tokens : torch.Tensor
            What follows after the tokens in the cache, shape (batch, new tokens).
        cache : transformers.EncoderDecoderCache
            Keys and values of earlier tokens, as returned here; None at first.
        state_lengths : torch.Tensor
            As for ``forward``.
        positions : int
            After how many of the last tokens.

        Returns
        -------
        logits : torch.Tensor
            Shape (batch, positions, vocabulary), float32.
        cache : transformers.EncoderDecoderCache
            With the keys and values of ``tokens`` added.
        """
        with self._attending(state_lengths, encoder_states.shape[1]):
            output = self.model.decoder(
                input_ids=tokens,
                encoder_hidden_states=encoder_states,
                past_key_values=cache,
                use_cache=True,
            )
        last = output.last_hidden_state[:, -positions:]
        return self._project(last), output.past_key_values


def _padding_mask(lengths: torch.Tensor | None, total: int) -> torch.Tensor | None:
    """Which of so many frames are each utterance's own; None if all are."""
    if lengths is None or bool((lengths == total).all()):
        return None
    frames = torch.arange(total, device=lengths.device)
    return (frames < lengths[:, None])[:, None, None]


def _clip_states(samples: int) -> int:
    with_margin = samples + int(CLIP_MARGIN * SAMPLE_RATE)
    return math.ceil(min(with_margin, N_SAMPLES) / SAMPLES_PER_STATE)
