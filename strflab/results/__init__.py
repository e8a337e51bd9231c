"""Results that outlive their run: what chapters computed (`recorded`), and fitted models (`fit`)."""

from __future__ import annotations

import importlib
from typing import Any

from strflab.results.chapters import Result, available, computed, load, recorded, save
from strflab.results.folder import folder

# these import the models
_FITS = (
    "StoredFit",
    "compare",
    "fit",
    "fit_all",
    "fit_key",
    "fits",
    "load_fit",
    "prune",
    "recorded_fit",
    "save_fit",
)

__all__ = [
    "Result",
    "StoredFit",
    "available",
    "compare",
    "computed",
    "fit",
    "fit_all",
    "fit_key",
    "fits",
    "folder",
    "load",
    "load_fit",
    "prune",
    "recorded",
    "recorded_fit",
    "save",
    "save_fit",
]


def __getattr__(name: str) -> Any:
    if name in _FITS:
        return getattr(importlib.import_module("strflab.results.stored_fits"), name)
    raise AttributeError(f"module 'strflab.results' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
