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

    # papermill brings ipykernel into a program that is no notebook: ask for the running kernel
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    in_notebook = getattr(shell, "kernel", None) is not None
    where = {"file": sys.stdout, "leave": False} if in_notebook else {}
    return tqdm(iterable, **(where | options))
