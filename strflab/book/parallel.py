"""Sphinx extension: let the pages be read by several processes.

Sphinx reads one page after the other as soon as one extension does not say that it allows more. Three of ours say
nothing: sphinx_multitoc_numbering, which numbers the sections once all pages are read, sphinx-mathjax-offline, which
copies files once all are written, and sphinx_jupyterbook_latex, which changes nothing in pages of HTML.
"""

from __future__ import annotations

from typing import Any

SILENT = ("sphinx_multitoc_numbering", "sphinx-mathjax-offline", "sphinx_jupyterbook_latex")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", _allow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _allow(app: Any) -> None:
    for name in SILENT:
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True
