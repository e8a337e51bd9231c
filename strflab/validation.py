"""Checks of arguments: each returns the value, or raises ``ValueError`` naming argument, value and what is allowed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

LARGEST_SIZE = 1_000_000  # a size above this is a mistake, and would fail later for want of memory


def integer(name: str, value: Any, minimum: int = 1, maximum: int = LARGEST_SIZE) -> int:
    """Return `value` as an int in ``[minimum, maximum]``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not minimum <= int(value) <= maximum:
        raise ValueError(f"{name}={value!r}: must be an integer from {minimum} to {maximum}")
    return int(value)


def number(
    name: str, value: Any, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf
) -> float:
    """Return `value` as a finite float that is > `above`, >= `at_least` and <= `at_most`."""
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or not (value > above and at_least <= value <= at_most):
        rules = [f"> {above:g}"] * (above > -math.inf)
        rules += [f">= {at_least:g}"] * (at_least > -math.inf)
        rules += [f"<= {at_most:g}"] * (at_most < math.inf)
        raise ValueError(f"{name}={value!r}: must be a finite number {' and '.join(rules)}".rstrip())
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: must be True or False")
    return value


def choice(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Return `value`, which must be one of `allowed`."""
    if not any(type(value) is type(a) and value == a for a in allowed):
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(repr(a) for a in allowed)}")
    return value


def integer_pair(name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """Return `value`, a tuple or list of two integers, as a tuple."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name}={value!r}: must be two integers")
    return integer(f"{name}[0]", value[0], minimum), integer(f"{name}[1]", value[1], minimum)
