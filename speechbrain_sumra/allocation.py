"""Which singular vectors are summed into which row of A.

A strategy takes the singular values s_1 >= ... >= s_p of a weight and a rank
r, and returns r index sets S_0 ... S_{r-1} (0-based) that are disjoint and
cover 0 ... p-1 (SumRA, section 3.2).  Row i of A is then
``a_i = sum over j in S_i of sqrt(s_j) v_j`` (eq. 10).  Only "slice:k" covers
less: it is one of the models whose average SumRA stands for (section 4).
"""

import heapq
import re

import numpy as np


def block(singular_values: np.ndarray, rank: int) -> list[np.ndarray]:
    """Neighbouring singular vectors share a row (SumRA, eq. 11).

    Where rank does not divide p, the first rows get one vector more.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values; only their number matters here.
    rank : int
        Number of rows r, 1 <= r <= p.

    Returns
    -------
    list of np.ndarray
        r index sets.

    Example
    -------
    >>> [s.tolist() for s in block(np.ones(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    return np.array_split(np.arange(len(singular_values)), rank)


def interleave(singular_values: np.ndarray, rank: int) -> list[np.ndarray]:
    """Every r-th singular vector shares a row: ``S_i = range(p)[i::r]``.

    This is the reshape-and-sum of SumRA's Table 1 and its main method.
    Eq. 13 as printed (stride k/r, r items) repeats and skips indices unless
    k = r * r, so Table 1 is what is implemented.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values; only their number matters here.
    rank : int
        Number of rows r, 1 <= r <= p.

    Returns
    -------
    list of np.ndarray
        r index sets.

    Example
    -------
    >>> [s.tolist() for s in interleave(np.ones(5), 2)]
    [[0, 2, 4], [1, 3]]
    """
    indices = np.arange(len(singular_values))
    return [indices[row::rank] for row in range(rank)]


def greedy(singular_values: np.ndarray, rank: int) -> list[np.ndarray]:
    """The next largest singular value goes to the row of least load.

    The load of row i is ``L_i = sum over j in S_i of s_j`` (eq. 12); of
    several rows with the least load, the lowest one gets the value.

    This is the longest-processing-time rule.  It is a good heuristic but,
    contrary to the theorem in the paper's appendix A.1, not optimal: its
    largest load can be up to 4/3 - 1/(3r) times the smallest possible one
    (Graham 1969).  Loads (3, 3, 2, 2, 2) on two rows show it:

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values, largest first.
    rank : int
        Number of rows r, 1 <= r <= p.

    Returns
    -------
    list of np.ndarray
        r index sets, each in ascending order.

    Example
    -------
    >>> values = np.array([3.0, 3.0, 2.0, 2.0, 2.0])
    >>> sets = greedy(values, 2)
    >>> [s.tolist() for s in sets]
    [[0, 2, 4], [1, 3]]
    >>> row_loads(values, sets).max()  # {3, 3} and {2, 2, 2} would give 6
    np.float64(7.0)
    """
    rows = [(0.0, row) for row in range(rank)]
    index_sets: list[list[int]] = [[] for _ in range(rank)]
    for index, value in enumerate(singular_values):
        load, row = heapq.heappop(rows)
        index_sets[row].append(index)
        heapq.heappush(rows, (load + float(value), row))
    return [np.array(indices, dtype=np.int64) for indices in index_sets]


def karmarkar_karp(singular_values: np.ndarray, rank: int) -> list[np.ndarray]:
    """The largest differencing method (Karmarkar and Karp 1983), for r rows.

    Every value starts as an allocation of its own, on one row of r. The two
    allocations whose rows differ most are then laid over each other, the heaviest
    row of one on the lightest of the other, until one is left. Loads are usually
    far more even than with ``greedy``:

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values, largest first.
    rank : int
        Number of rows r, 1 <= r <= p.

    Returns
    -------
    list of np.ndarray
        r index sets, each in ascending order, in the order of their first index.

    Example
    -------
    >>> values = np.array([5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0])
    >>> row_loads(values, greedy(values, 3)).max()
    np.float64(11.0)
    >>> row_loads(values, karmarkar_karp(values, 3)).max()
    np.float64(10.0)
    """
    # An allocation: how far its rows differ (negative, for the heap), a number that
    # decides ties, and its rows from heavy to light, each with load and indices.
    heap = []
    for index, value in enumerate(singular_values):
        rows = [(float(value), [index])] + [(0.0, [])] * (rank - 1)
        heap.append((-float(value), index, rows))
    heapq.heapify(heap)
    for number in range(len(singular_values), 2 * len(singular_values) - 1):
        _, _, rows = heapq.heappop(heap)
        _, _, others = heapq.heappop(heap)
        pairs = zip(rows, reversed(others), strict=True)
        rows = [(a + b, indices + more) for (a, indices), (b, more) in pairs]
        lightest = min(load for load, _ in rows)
        rows = sorted(
            ((load - lightest, indices) for load, indices in rows),
            # Of rows without load, those without indices are the lightest.
            key=lambda row: (-row[0], -len(row[1])),
        )
        heapq.heappush(heap, (-rows[0][0], number, rows))
    index_sets = sorted(sorted(indices) for _, indices in heap[0][2])
    return [np.array(indices, dtype=np.int64) for indices in index_sets]


def one_slice(singular_values: np.ndarray, rank: int, number: int) -> list[np.ndarray]:
    """One singular vector a row: the ``number``-th r of them (SumRA, section 4).

    ``S_i = {number * r + i}``. The A of "interleave" is the sum of the A's of
    slices 0, 1, ...; models trained on one slice each can be averaged.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values; only their number matters here.
    rank : int
        Number of rows r.
    number : int
        Which slice, counted from 0; (number + 1) * r <= p.

    Returns
    -------
    list of np.ndarray
        r index sets of one index each.

    Raises
    ------
    ValueError
        If there are not so many singular vectors.

    Example
    -------
    >>> [s.tolist() for s in one_slice(np.ones(7), 3, 1)]
    [[3], [4], [5]]
    """
    whole = len(singular_values) // rank
    if number >= whole:
        raise ValueError(
            f"There is no slice {number} of {rank} singular vectors: this "
            f"weight has {len(singular_values)}, i.e. slices 0 to {whole - 1}."
        )
    return [np.array([number * rank + row]) for row in range(rank)]


STRATEGIES = {
    "block": block,
    "interleave": interleave,
    "greedy": greedy,
    "karmarkar_karp": karmarkar_karp,
}
SLICE = re.compile(r"slice:(\d+)")


def check_rank(rank: int, number: int) -> None:
    """Refuse a rank that a weight cannot have.

    Arguments
    ---------
    rank : int
        The rank.
    number : int
        Singular values of the weight, p = min(d, k).

    Raises
    ------
    ValueError
        If rank is not an integer in 1 ... p.
    """
    is_integer = isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)
    if not is_integer or not 1 <= rank <= number:
        raise ValueError(
            f"rank must be an integer from 1 to {number} (the number of "
            f"singular values of this weight), got {rank!r}."
        )


def allocate(
    singular_values: np.ndarray, rank: int, strategy: str = "interleave"
) -> list[np.ndarray]:
    """Index sets of the rows of A, after checking rank and strategy.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values of a weight, largest first.
    rank : int
        Number of rows of A, 1 <= rank <= p.
    strategy : str
        A name in ``STRATEGIES``: "block", "interleave", "greedy" or
        "karmarkar_karp"; or "slice:0", "slice:1", ...

    Returns
    -------
    list of np.ndarray
        ``rank`` disjoint index sets that cover 0 ... p-1 (but for a slice).

    Raises
    ------
    ValueError
        If the strategy is unknown, or rank is not an integer in 1 ... p.

    Example
    -------
    >>> [s.tolist() for s in allocate(np.array([4.0, 3.0, 2.0, 1.0]), 2)]
    [[0, 2], [1, 3]]
    >>> allocate(np.ones(4), 5)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: rank must be an integer from 1 to 4 ..., got 5.
    """
    part = SLICE.fullmatch(strategy)
    if strategy not in STRATEGIES and part is None:
        raise ValueError(
            f"Unknown strategy {strategy!r}; expected one of "
            f"{', '.join(STRATEGIES)}, or slice:0, slice:1, ..."
        )
    check_rank(rank, len(singular_values))
    if part is not None:
        return one_slice(singular_values, rank, int(part[1]))
    return STRATEGIES[strategy](singular_values, rank)


def row_loads(singular_values: np.ndarray, index_sets: list[np.ndarray]) -> np.ndarray:
    """Load of each row, ``L_i = sum over j in S_i of s_j`` (SumRA, eq. 12).

    Since singular vectors are orthonormal, ``A A^T = diag(L)``.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values.
    index_sets : list of np.ndarray
        The r index sets.

    Returns
    -------
    np.ndarray
        The r loads.

    Example
    -------
    >>> row_loads(np.array([3.0, 2.0, 1.0]), [np.array([0]), np.array([1, 2])])
    array([3., 3.])
    """
    return np.array([singular_values[indices].sum() for indices in index_sets])


def max_load_bound(singular_values: np.ndarray, rank: int) -> float:
    """A lower bound on the largest row load of any allocation.

    ``max(sum(s) / r, s_1, s_r + s_{r+1})``: the mean load; the largest value
    must lie somewhere; two of the first r + 1 values must share a row.

    Arguments
    ---------
    singular_values : np.ndarray
        The p singular values, largest first.
    rank : int
        Number of rows r.

    Returns
    -------
    float
        The bound; ``row_loads(...).max()`` over it says how far an
        allocation can be from the optimum.

    Example
    -------
    >>> max_load_bound(np.array([3.0, 3.0, 2.0, 2.0, 2.0]), 2)
    6.0
    """
    shared = singular_values[rank - 1 : rank + 1].sum()
    if len(singular_values) == rank:
        shared = 0.0
    return float(max(singular_values.sum() / rank, singular_values[0], shared))
