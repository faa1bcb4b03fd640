"""Speech that says nothing: vowels, consonants and pauses at random."""

import torch

SAMPLE_RATE = 16000
HOP = 80  # 5 ms
WINDOW = 400  # 25 ms
FRAMES_A_SECOND = SAMPLE_RATE // HOP

# The first four formants of seven vowels, in Hz, and of each formant its
# bandwidth in Hz and amplitude.
VOWELS = (
    (730, 1090, 2440, 3400),
    (270, 2290, 3010, 3600),
    (300, 870, 2240, 3300),
    (530, 1840, 2480, 3500),
    (570, 840, 2410, 3300),
    (490, 1350, 1690, 3300),
    (660, 1720, 2410, 3500),
)
RESONANCES = ((90, 1.0), (110, 0.6), (160, 0.35), (220, 0.2))


def babble(seed: int, seconds: float) -> torch.Tensor:
    """A voice that babbles, the same for the same seed.

    A pulse train of falling pitch and noise pass through formants that glide from
    vowel to vowel; syllables start with a fricative, a stop, a nasal or nothing.

    Arguments
    ---------
    seed : int
        Chooses voice and syllables.
    seconds : float
        Duration.

    Returns
    -------
    torch.Tensor
        Waveform at 16 kHz between -1 and 1, shape (samples,).

    Example
    -------
    >>> babble(0, 1.5).shape
    torch.Size([24000])
    >>> bool((babble(0, 1.5) == babble(0, 1.5)).all())
    True
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(1, generator=generator).item()

    samples = int(seconds * SAMPLE_RATE)
    noise = torch.randn(samples, generator=generator)
    time = torch.arange(samples) / SAMPLE_RATE
    vibrato = 0.08 * torch.sin(10.7 * time + uniform(0, 6))
    pitch = uniform(90, 220) * (1.1 - 0.25 * time / seconds + vibrato)
    cycles = (pitch / SAMPLE_RATE).cumsum(0).floor()
    voice = 20 * cycles.diff(prepend=torch.zeros(1)) + 0.02 * noise

    window = torch.hann_window(WINDOW)

    def spectrum(signal):
        return torch.stft(signal, WINDOW, HOP, window=window, return_complex=True)

    voice, friction = spectrum(voice), spectrum(0.35 * noise)
    frames = voice.shape[1]
    formants, loudness, hiss, centre = _syllables(frames, uniform)
    frequency = torch.linspace(0, SAMPLE_RATE / 2, len(voice))[:, None]
    throat = torch.zeros(len(voice), frames)
    for formant, (bandwidth, amplitude) in zip(formants, RESONANCES, strict=True):
        throat += amplitude / (1 + ((frequency - formant) / bandwidth) ** 2)
    teeth = 0.5 / (1 + ((frequency - centre) / 900) ** 2)
    sound = voice * throat * loudness + friction * teeth * hiss
    signal = torch.istft(sound, WINDOW, HOP, window=window, length=samples)
    signal = uniform(0.2, 0.8) * signal / signal.abs().max()
    return signal + 0.0005 * noise


def _syllables(frames: int, uniform):
    """Formants (4, frames), and loudness, hiss and its frequency (frames,)."""
    formants = torch.zeros(4, frames)
    loudness, hiss, centre = torch.zeros(3, frames)
    start, last = 0, torch.tensor(VOWELS[0], dtype=torch.float32)
    while start < frames:
        consonant = int(uniform(0.04, 0.13) * FRAMES_A_SECOND)
        length = consonant + int(uniform(0.12, 0.30) * FRAMES_A_SECOND)
        onset = ("fricative", "stop", "nasal", "none")[int(uniform(0, 4))]
        vowel = torch.tensor(VOWELS[int(uniform(0, len(VOWELS)))])
        vowel = vowel * uniform(0.9, 1.15)

        end = min(frames, start + length)
        glide = (3 * torch.linspace(0, 1, length)).clamp(max=1)
        path = last[:, None] * (1 - glide) + vowel[:, None] * glide
        formants[:, start:end] = path[:, : end - start]
        voiced = torch.sin(torch.linspace(0.5, 3.0, length - consonant))
        before = {"fricative": 0.02, "stop": 0.02, "nasal": 0.25, "none": 1.0}[onset]
        level = torch.cat([torch.full((consonant,), before), voiced])
        loudness[start:end] = level[: end - start]
        if onset == "fricative":
            hiss[start : start + consonant] = uniform(0.3, 0.8)
        elif onset == "stop":
            hiss[start + consonant - 3 : start + consonant] = 1.0
        centre[start:end] = uniform(2500, 6500)
        start, last = end, vowel
        if uniform(0, 1) < 0.12:
            start += int(uniform(0.15, 0.45) * FRAMES_A_SECOND)
    return formants, loudness, hiss, centre
