"""Checks of arguments: the value comes back, or a ValueError names argument, value and rule."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strflab.validation import boolean, choice, integer, integer_pair, number

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers())


@given(anything)
def test_each_returns_the_value_or_names_it(value):
    for check in (
        lambda: integer("size", value),
        lambda: number("size", value, above=0),
        lambda: boolean("size", value),
        lambda: choice("size", value, ("a", None, 1)),
        lambda: integer_pair("size", value),
    ):
        result, message = outcome(check)
        if message:
            assert re.match(r"size.*=.*must be", message, re.DOTALL)
        else:
            assert result == value or list(result) == value


def outcome(check):
    """What `check` returns, and what it complains of."""
    try:
        return check(), None
    except ValueError as error:
        return None, str(error)


def test_integer():
    assert integer("n", np.int64(3)) == 3
    assert type(integer("n", np.int64(3))) is int
    for wrong in (0, True, 2.0, "2", None, 10**9):
        with pytest.raises(ValueError, match=r"^n=.*integer from 1 to 1000000"):
            integer("n", wrong)
    assert integer("n", -2, -3, 5) == -2


def test_number():
    assert number("x", np.float32(0.5), above=0, at_most=1) == 0.5
    with pytest.raises(ValueError, match=r"^x=0: must be a finite number > 0 and <= 1$"):
        number("x", 0, above=0, at_most=1)
    for wrong in (float("nan"), float("inf"), "1", True, None, 1j):
        with pytest.raises(ValueError, match=r"^x="):
            number("x", wrong)


def test_choice_tells_true_from_one():
    assert choice("c", 1, (0, 1)) == 1
    with pytest.raises(ValueError, match="c=True: must be one of 0, 1"):
        choice("c", True, (0, 1))


def test_integer_pair():
    assert integer_pair("k", [3, 9]) == (3, 9)
    for wrong in (3, (3,), (3, 9, 1), "39", None):
        with pytest.raises(ValueError, match=r"k=.*two integers"):
            integer_pair("k", wrong)
    with pytest.raises(ValueError, match=r"k\[1\]=0"):
        integer_pair("k", (3, 0))
