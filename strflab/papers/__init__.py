"""Each paper as code: its models (`forms`), and the analysis that its chapter shows.

Models are functions of this module, `papers.harper2016_nrf()` for one; analyses are modules, `papers.theunissen2000`,
that turn a recording into the arrays that a chapter draws and judges.
"""

from __future__ import annotations

import importlib
from typing import Any

from strflab.papers.forms import (
    count_parameters,
    harper2016_nrf,
    pennington2023_cnn1d,
    pennington2023_cnn1dx2,
    pennington2023_cnn2d,
    pennington2023_ln,
    pennington2023_pop_ln,
    pennington2023_single_cnn,
    rahman2019_dnet,
    rahman2019_ln,
    rancon2025_statenet,
)

_ANALYSES = (
    "comparison",
    "harper2016",
    "ns1_baseline",
    "pennington2023",
    "population",
    "rahman2019",
    "rahman2020",
    "rancon2025",
    "theunissen2000",
)

__all__ = [
    "comparison",
    "count_parameters",
    "harper2016",
    "harper2016_nrf",
    "ns1_baseline",
    "pennington2023",
    "pennington2023_cnn1d",
    "pennington2023_cnn1dx2",
    "pennington2023_cnn2d",
    "pennington2023_ln",
    "pennington2023_pop_ln",
    "pennington2023_single_cnn",
    "population",
    "rahman2019",
    "rahman2019_dnet",
    "rahman2019_ln",
    "rahman2020",
    "rancon2025",
    "rancon2025_statenet",
    "theunissen2000",
]


def __getattr__(name: str) -> Any:
    if name in _ANALYSES:
        return importlib.import_module(f"strflab.papers.{name}")
    raise AttributeError(f"module 'strflab.papers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
