"""Encoder states of utterances, computed once and read many times.

The encoder is frozen, so an utterance has the same states in every epoch,
validation and test.
"""

from collections.abc import Callable, Sequence

import torch
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class EncoderStates:
    """Encoder states kept in memory as float16, up to a limit.

    Every utterance is encoded by itself and rounded to float16 whether or
    not there is room to keep it, so what the decoder sees depends neither on
    the batch nor on the limit.

    Arguments
    ---------
    max_gigabytes : float
        Memory for the states. One utterance takes 1500 x width x 2 bytes:
        1.5 MB for whisper-base, 2.3 MB for small, 3.8 MB for large. Beyond
        the limit utterances are encoded each time they are met. 0 keeps
        nothing.

    Example
    -------
    >>> calls = []
    >>> def encode(wav):
    ...     calls.append(wav.shape)
    ...     return wav.reshape(1, 2, 2)
    >>> states = EncoderStates(max_gigabytes=1)
    >>> wavs, lengths = torch.rand(1, 4), torch.ones(1)
    >>> first = states(["a"], wavs, lengths, encode)
    >>> second = states(["a"], wavs, lengths, encode)
    >>> bool((first == second).all()), len(calls)
    (True, 1)
    """

    def __init__(self, max_gigabytes: float = 8.0):
        self.max_bytes = int(max_gigabytes * 1e9)
        self.nbytes = 0
        self._states: dict[str, torch.Tensor] = {}
        self._full = max_gigabytes <= 0

    def __call__(
        self,
        keys: Sequence[str],
        wavs: torch.Tensor,
        wav_lens: torch.Tensor,
        encode: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """States of a batch, from memory where they are kept.

        Arguments
        ---------
        keys : sequence of str
            What identifies each utterance, e.g. the path of its audio.
        wavs : torch.Tensor
            Waveforms, shape (batch, samples).
        wav_lens : torch.Tensor
            Relative lengths, shape (batch,), as SpeechBrain has them.
        encode : callable
            Waveforms (1, samples) -> states (1, frames, width).

        Returns
        -------
        torch.Tensor
            States, shape (batch, frames, width), float32.
        """
        samples = (wav_lens * wavs.shape[1]).round().int().tolist()
        states = [
            self._states_of(key, wav[None, :length], encode)
            for key, wav, length in zip(keys, wavs, samples, strict=True)
        ]
        return torch.cat([state.float() for state in states])

    def _states_of(self, key, wav, encode):
        if key in self._states:
            return self._states[key].to(wav.device)
        states = encode(wav).to(torch.float16)
        if self.nbytes + states.nbytes <= self.max_bytes:
            self._states[key] = states.cpu()
            self.nbytes += states.nbytes
        elif not self._full:
            self._full = True
            logger.warning(
                "The memory for encoder states (%.1f GB) is full after %d "
                "utterances; the others are encoded each time. Set "
                "--feature_cache_gb higher if the machine has more memory.",
                self.max_bytes / 1e9,
                len(self._states),
            )
        return states
