"""Paths are called by what tells them apart."""

import pytest

from speechbrain_sumra.report.layouts import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["runs/near/rank-2"], ["runs/near/rank-2"]),
        (["runs/far/rank-2", "runs/near/rank-2"], ["far", "near"]),
        (["a/far/2", "a/near/2", "other/x/2"], ["far", "near", "other"]),
        (["a/far/2", "a/far/32", "a/near/2"], ["2", "32", "near"]),
        (["a/far/2", "a/far/3", "b/far/2", "b/far/3"],) * 2,
        (["a", "a/b"], ["a", "b"]),
    ],
)
def test_short_names_are_as_short_as_they_can_be_apart(paths, names):
    assert short_names(paths) == dict(zip(paths, names, strict=True))
