import pytest

from speechbrain_sumra.report.layouts import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["runs/near/rank-2"], ["runs/near/rank-2"]),
        (["runs/far/rank-2", "runs/near/rank-2"], ["far", "near"]),
        (["a/far/2", "a/far/32", "b/far/2"], ["a/far/2", "a/far/32", "b/far/2"]),
        (["far/2", "far/32", "near/2"], ["far/2", "far/32", "near/2"]),
        (["a/far", "a/far/rank-2", "a/near"], ["far", "far/rank-2", "near"]),
        (["a", "a/b"], ["a", "a/b"]),
    ],
)
def test_short_names_are_as_short_as_they_can_be_apart(paths, names):
    assert short_names(paths) == dict(zip(paths, names, strict=True))
