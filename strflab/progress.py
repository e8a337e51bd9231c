"""The progress bar of everything that takes long: tqdm, where someone can see it.

In a notebook it goes to the cell's output and clears itself: what a cell writes to stderr would stand in a published
page as an error.
"""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(iterable: Any = None, **options: Any) -> Any:
    """Return a tqdm bar; arguments are tqdm's."""
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    where = {"file": sys.stdout, "leave": False} if in_notebook else {}
    return tqdm(iterable, **(where | options))
