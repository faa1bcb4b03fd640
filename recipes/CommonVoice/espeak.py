"""Speech from the eSpeak NG synthesiser, by ctypes.

Its library and its data are the pip package `espeakng-loader`.
"""

import ctypes
from pathlib import Path

import numpy as np


class EspeakNG:
    """The eSpeak NG library, speaking one language into arrays.

    The library keeps its state per process, so use one object at a time, as
    a context manager. In a fresh process the same calls give the same
    samples; later in a process they differ by a hair, as the library's own
    slow variations of the voice run on.

    Arguments
    ---------
    language: str
        One of eSpeak NG's languages.

    Raises
    ------
    ImportError
        If the package `espeakng_loader` is missing.
    RuntimeError
        If the library does not find its data.

    Example
    -------
    >>> with EspeakNG("eo") as espeak:
    ...     samples = espeak.say("Saluton al ĉiuj!", "m3", rate=150, pitch=50)
    ...     espeak.sample_rate
    22050
    >>> samples.dtype, bool(abs(samples).max() <= 1)
    (dtype('float32'), True)
    """

    # Values of speak_lib.h, whose names they keep.
    AUDIO_OUTPUT_SYNCHRONOUS = 2
    INITIALIZE_DONT_EXIT = 0x8000
    CHARS_UTF8 = 1
    RATE, PITCH = 1, 3

    # int callback(short *wav, int numsamples, espeak_EVENT *events)
    CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_short),
        ctypes.c_int,
        ctypes.c_void_p,
    )

    def __init__(self, language: str = "eo"):
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(
                "Synthetic speech needs eSpeak NG, which is not installed. "
                'Run: pip install "speechbrain-sumra[offline]"'
            ) from error
        self.language = language
        self.data = Path(espeakng_loader.get_data_path())
        self.lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._declare()
        self.sample_rate = self.lib.espeak_Initialize(
            self.AUDIO_OUTPUT_SYNCHRONOUS,
            0,
            str(self.data).encode(),
            self.INITIALIZE_DONT_EXIT,
        )
        if self.sample_rate <= 0:
            raise RuntimeError(
                f"eSpeak NG does not start with its data in {self.data} "
                f"({len(str(self.data))} characters). It cuts paths longer "
                "than about 150 characters: if this one is, use a virtual "
                "environment in a shorter folder."
            )
        self._chunks: list[bytes] = []
        # Kept here, or it would be collected while the library calls it.
        self._callback = self.CALLBACK(self._receive)
        self.lib.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        """Tells ctypes the signatures, as they stand in speak_lib.h."""
        c_int, c_uint, c_char_p = ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
        signatures = {
            # output, buflength, path, options -> sampling rate
            "espeak_Initialize": [c_int, c_int, c_char_p, c_int],
            "espeak_SetSynthCallback": [self.CALLBACK],
            "espeak_SetVoiceByName": [c_char_p],
            # parameter, value, relative
            "espeak_SetParameter": [c_int, c_int, c_int],
            # text, size, position, position_type, end_position, flags,
            # unique_identifier, user_data
            "espeak_Synth": [
                c_char_p, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint,
                ctypes.POINTER(c_uint), ctypes.c_void_p,
            ],
            "espeak_Terminate": [],
        }  # fmt: skip
        for name, argtypes in signatures.items():
            function = getattr(self.lib, name)
            function.argtypes, function.restype = argtypes, c_int

    def _receive(self, samples, count: int, events) -> int:
        """Keeps a chunk of speech; 0 tells the library to go on."""
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, text: str, variant: str, rate: int, pitch: int) -> np.ndarray:
        """Speaks a sentence.

        Arguments
        ---------
        text: str
            The sentence.
        variant: str
            The voice variant, such as `m3` or `f2`.
        rate: int
            Words a minute, 80 to 450.
        pitch: int
            0 to 100; 50 is the voice's own.

        Returns
        -------
        numpy.ndarray
            The samples, float32 between -1 and 1, at `sample_rate`.

        Raises
        ------
        ValueError
            If eSpeak NG has no such variant or language.
        RuntimeError
            If nothing was spoken.
        """
        voice = f"{self.language}+{variant}"
        # The library takes an unknown variant for the plain voice, silently.
        known = (self.data / "voices" / "!v" / variant).is_file()
        if not known or self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice!r}.")
        self.lib.espeak_SetParameter(self.RATE, rate, 0)
        self.lib.espeak_SetParameter(self.PITCH, pitch, 0)
        self._chunks.clear()
        encoded = text.encode()
        status = self.lib.espeak_Synth(
            encoded, len(encoded) + 1, 0, 0, 0, self.CHARS_UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise RuntimeError(
                f"eSpeak NG spoke nothing (status {status}) for {text!r}."
            )
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        return samples.astype(np.float32) / 32768

    def __enter__(self) -> "EspeakNG":
        return self

    def __exit__(self, *exception) -> None:
        self.lib.espeak_Terminate()
