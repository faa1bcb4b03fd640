"""How sure a figure is: intervals over seeds, and over test utterances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
CHUNK = 500  # resamples at a time, so that memory does not grow with their number


def t_quantile(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to each side.

    With ``t = sqrt(f) tan(u)``, Student's t with f degrees of freedom has the density
    ``cos(u)^(f - 1)``, up to a factor, for -pi/2 < u < pi/2. It is integrated from 0
    by the trapezoidal rule, up to 95 % of the whole.

    Arguments
    ---------
    freedom : int
        Degrees of freedom, 1 or more.

    Returns
    -------
    float
        The 0.975 quantile.

    Example
    -------
    >>> [round(t_quantile(freedom), 3) for freedom in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    u = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(u) ** (freedom - 1)
    area = np.cumsum(density[1:] + density[:-1])
    return math.sqrt(freedom) * math.tan(
        np.interp(CONFIDENCE, area / area[-1], u[1:]).item()
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and 95 % t-interval.

    Arguments
    ---------
    values : sequence of float
        One of each seed.

    Returns
    -------
    mean : float
        Their mean.
    half : float or None
        ``t s / sqrt(n)``, half the width of the interval; None of a single value,
        which says nothing of chance.

    Example
    -------
    >>> mean_interval([10.0]), mean_interval([10.0, 10.0])
    ((10.0, None), (10.0, 0.0))
    """
    number = len(values)
    mean = float(np.mean(values))
    if number == 1:
        return mean, None
    error = float(np.std(values, ddof=1)) / math.sqrt(number)
    return mean, t_quantile(number - 1) * error


@dataclass(frozen=True)
class Difference:
    """A difference of two WERs in points, and its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        WER minus the baseline's; below zero is better.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_difference(
    errors: np.ndarray,
    baseline_errors: np.ndarray,
    words: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 1986,
) -> Difference:
    """Paired bootstrap over utterances of the difference of two WERs.

    Test utterances are drawn with replacement, the same for both, and the difference
    of the WERs is computed of each draw; the interval holds the middle 95 % of these
    differences (Bisani and Ney 2004). It says how far a difference depends on which
    utterances were tested, not on the seeds of the trainings.

    Arguments
    ---------
    errors, baseline_errors : np.ndarray
        Word edits of each utterance, their mean over seeds, shape (n,).
    words : np.ndarray
        Reference words of each utterance, shape (n,).
    resamples : int
        How often utterances are drawn.
    seed : int
        Seed of the draws.

    Returns
    -------
    Difference
        In points of WER (percent).

    Raises
    ------
    ValueError
        If the three have different lengths.

    Example
    -------
    >>> errors = np.array([1.0, 2.0, 0.0])
    >>> bootstrap_difference(errors, errors, np.array([4, 4, 2]))
    Difference(value=0.0, low=0.0, high=0.0)
    """
    if not len(errors) == len(baseline_errors) == len(words):
        raise ValueError(
            "Expected counts of the same utterances, found "
            f"{len(errors)}, {len(baseline_errors)} and {len(words)}."
        )
    generator = np.random.default_rng(seed)
    more_errors = np.asarray(errors, dtype=float) - baseline_errors
    differences = []
    for start in range(0, resamples, CHUNK):
        number = min(CHUNK, resamples - start)
        drawn = generator.integers(0, len(words), size=(number, len(words)))
        differences.append(more_errors[drawn].sum(axis=1) / words[drawn].sum(axis=1))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(100 * np.concatenate(differences), [tail, 100 - tail])
    value = 100 * more_errors.sum() / words.sum()
    return Difference(float(value), float(low), float(high))
