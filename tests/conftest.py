"""Fixtures that every test file may use."""

import numpy as np
import pytest

from convgrad import backends

SEED = 20240817


def pytest_report_header():
    return f"random seed: {SEED}"


@pytest.fixture
def rng():
    """A generator that starts every test from the same printed seed."""
    return np.random.default_rng(SEED)


@pytest.fixture(params=["native", "numpy"])
def backend(request):
    """Run the test once per backend; the name of the one in force."""
    with backends.backend(request.param):
        yield request.param


def check_close(actual, expected, length, what=""):
    """Assert that `actual` is `expected`, a float64 result, up to the rounding of sums of `length` terms.

    Terms are taken to be at most about 1. The bound holds for the worst element: two units of rounding per addition.
    """
    assert isinstance(actual, np.ndarray)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, f"{what} shape {actual.shape}, expected {expected.shape}"
    tolerance = 2 * np.finfo(actual.dtype).eps * (length + 8)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=str(what))


@pytest.fixture(name="check_close")
def check_close_fixture():
    """The function `check_close(actual, expected, length, what="")`."""
    return check_close
