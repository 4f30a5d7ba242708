"""Rounding errors of every operation, ours and PyTorch's, as tests/accuracy/operations.py measures them."""

import sys
from pathlib import Path

import numpy as np
import pytest

import convgrad
from convgrad import functional

sys.path.insert(0, str(Path(__file__).parent / "accuracy"))

import operations


def test_every_functional_is_measured_or_has_a_reason():
    text = " ".join(operations.ROWS) + " conv2d_grad_input conv2d_grad_weight"
    named = {name for name in functional.__all__ if any(word.rstrip(",") == name for word in text.split())}
    assert named | set(operations.WITHOUT_ROW) == set(functional.__all__)
    assert not named & set(operations.WITHOUT_ROW)


@pytest.mark.parametrize("label", operations.ROWS)
def test_mean_errors_are_of_pytorchs_order(label):
    pytest.importorskip("torch")
    found, theirs = operations.measure(label)
    assert not operations.too_large(found, theirs), (found, theirs)
    assert found[0] < 100  # eps of the largest error, of Winograd's over sums of thousands of terms


def test_lost_digits_are_noticed(monkeypatch):
    pytest.importorskip("torch")
    good = functional.log_softmax
    for bad in (
        lambda x: good(x) * (1 + 4 * np.float32(operations.EPS)),
        lambda x: np.log(convgrad.softmax(x) + np.float32(1e-6)),
    ):
        call = lambda x, bad=bad: bad(x) if x.dtype == np.float32 else good(x)
        monkeypatch.setattr(functional, "log_softmax", call)
        assert operations.too_large(*operations.measure("log_softmax"))


def test_errors_count_in_units_of_the_larger_of_element_and_mean():
    eps = operations.EPS
    exact = np.array([1.0, 100.0, 0.0, -1.0])
    largest, mean = operations.errors([exact + [0, 100 * eps, 0, 0]], [exact])
    assert largest == pytest.approx(1)
    assert mean == pytest.approx(0.5)
    assert operations.errors([exact + [0, 0, 50 * eps, 0]], [exact])[0] == pytest.approx(50 / np.sqrt(10002 / 4))
    assert operations.errors([np.zeros(3)], [np.zeros(3)]) == (0, 0)
