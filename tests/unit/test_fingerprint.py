"""Fingerprints: blind to rounding, not to signs, order or names."""

import torch
from torch import nn

from speechbrain_sumra.basis import sum_basis
from speechbrain_sumra.fingerprint import fingerprint_rows, fingerprint_weights


def test_flipped_sign_or_order_changes_the_fingerprint():
    a = sum_basis(torch.randn(48, 48), 4)
    original = fingerprint_rows({"x": a})
    flipped = a.clone()
    flipped[2] *= -1
    assert fingerprint_rows({"x": flipped}) != original
    assert fingerprint_rows({"x": a.flip(0)}) != original
    assert fingerprint_rows({"y": a}) != original
    assert fingerprint_rows({"x": a + 1e-9}) == original


def test_half_precision_copy_of_the_same_values_has_the_same_fingerprint():
    model = nn.Linear(8, 8).half()
    assert fingerprint_weights(model) == fingerprint_weights(model.float())
