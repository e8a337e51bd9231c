"""strflab: how auditory neurons turn sound into spikes, in PyTorch."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "data",
    "fitting",
    "layers",
    "metrics",
    "models",
    "papers",
    "plotting",
    "receptive_fields",
    "report",
    "results",
    "reverse_correlation",
    "sweeps",
)


def __getattr__(name: str) -> Any:
    # a part is imported when it is first asked for, so that `import strflab` stays quick
    if name in _MODULES:
        return importlib.import_module(f"strflab.{name}")
    raise AttributeError(f"module 'strflab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
