"""Where results are kept."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Return $STRFLAB_RESULTS, or results/ of the tree that the package runs from."""
    return Path(os.environ.get("STRFLAB_RESULTS", Path(__file__).resolve().parents[2] / "results"))
