"""Texts that repeat themselves: how they go on, and where they might as well end."""

# Fewer tokens are often said twice by chance.
ORDER = 3
# A phrase said so often in a row, and so many tokens of it, is said for ever.
COPIES = 4
LEAST = 24


class RepeatingText:
    """Tokens of a text, and a guess of those that follow.

    If the last three tokens were said before, what followed then may follow again
    (Yang et al. 2023, *Inference with Reference*, with the text itself for a
    reference). A model that has lost its way says the same over and over, and
    guesses are right then.

    Arguments
    ---------
    stop : bool
        End the text where ``endless_phrase`` finds one, and keep that phrase once.

    Attributes
    ----------
    tokens : list of int
        What has been said.
    stuck : bool
        Whether the text was ended; what is said from then on is not kept.

    Example
    -------
    >>> text = RepeatingText()
    >>> text.extend([1, 2, 3, 4, 1, 2])
    >>> text.guess(5)
    []
    >>> text.extend([3])
    >>> text.guess(5)
    [4, 1, 2, 3, 4]
    >>> text = RepeatingText(stop=True)
    >>> text.extend([5] + 20 * [1, 2, 3, 4])
    >>> text.tokens, text.stuck
    ([5, 1, 2, 3, 4], True)
    """

    def __init__(self, stop: bool = False):
        self.tokens: list[int] = []
        self.stuck = False
        self._stop = stop
        self._followed: dict[tuple[int, ...], int] = {}
        self._resumes: int | None = None

    def extend(self, tokens: list[int]) -> None:
        """Say more.

        Arguments
        ---------
        tokens : list of int
            What follows.
        """
        for token in tokens:
            if self.stuck:
                break
            self.tokens.append(token)
            last = tuple(self.tokens[-ORDER:])
            if len(last) == ORDER:
                self._resumes = self._followed.get(last)
                self._followed[last] = len(self.tokens)
            if self._stop and (phrase := endless_phrase(self.tokens)):
                self.stuck = True
                del self.tokens[phrase - _repeated(phrase) :]

    def guess(self, number: int) -> list[int]:
        """What may follow: so many tokens, or none if nothing is being repeated.

        Arguments
        ---------
        number : int
            How many.
        """
        if self._resumes is None:
            return []
        period = self.tokens[self._resumes :]
        return [period[i % len(period)] for i in range(number)]


def endless_phrase(tokens: list[int]) -> int:
    """Length of the phrase that a text ends with ``COPIES`` times in a row.

    These copies must be at least ``LEAST`` tokens together, so that a laugh or a row
    of digits is none.

    Arguments
    ---------
    tokens : list of int
        The text.

    Returns
    -------
    int
        Of the shortest such phrase; 0 if there is none.

    Example
    -------
    >>> endless_phrase([9] + 4 * [1, 2, 3, 4, 5, 6]), endless_phrase(4 * [1, 2])
    (6, 0)
    """
    for phrase in range(1, len(tokens) // COPIES + 1):
        repeated = _repeated(phrase)
        if (
            repeated <= len(tokens)
            and tokens[-1] == tokens[-1 - phrase]
            and tokens[-repeated:-phrase] == tokens[phrase - repeated :]
        ):
            return phrase
    return 0


def _repeated(phrase: int) -> int:
    """After how many tokens a phrase of this length is endless: whole copies."""
    return phrase * max(COPIES, -(-LEAST // phrase))
