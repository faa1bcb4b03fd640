"""How a text goes on that has begun to repeat itself."""

# Fewer tokens are often said twice by chance.
ORDER = 3


class RepeatingText:
    """Tokens of a text, and a guess of those that follow.

    If the last three tokens were said before, what followed then may follow again
    (Yang et al. 2023, *Inference with Reference*, with the text itself for a
    reference). A model that has lost its way says the same over and over, and
    guesses are right then.

    Attributes
    ----------
    tokens : list of int
        What has been said.

    Example
    -------
    >>> text = RepeatingText()
    >>> text.extend([1, 2, 3, 4, 1, 2])
    >>> text.guess(5)
    []
    >>> text.extend([3])
    >>> text.guess(5)
    [4, 1, 2, 3, 4]
    """

    def __init__(self):
        self.tokens: list[int] = []
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
            self.tokens.append(token)
            last = tuple(self.tokens[-ORDER:])
            if len(last) == ORDER:
                self._resumes = self._followed.get(last)
                self._followed[last] = len(self.tokens)

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
