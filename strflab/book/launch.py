"""Sphinx extension: below each notebook's title, where to run it and how long that takes.

The times are those of the runs that the page shows, from the record in the notebook's metadata; what no run has
measured is said to be not measured. The box is put into the page, not into the notebook, so that a download is the
notebook as it was committed.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from strflab.book import notebooks

GPU_ADVICE = "To fit again on Colab, choose a GPU first: Runtime, Change runtime type."


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", _insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def links(docname: str, theme: dict[str, Any]) -> dict[str, str]:
    """Return the addresses of a notebook's launches, by what the reader sees.

    Parameters
    ----------
    docname : str
        Path of the page in the book, without its suffix.
    theme : dict
        `html_theme_options`: repository_url, repository_branch, path_to_docs and launch_buttons.
    """
    repository = theme["repository_url"].removeprefix("https://github.com/")
    branch, buttons = theme["repository_branch"], theme["launch_buttons"]
    path = "/".join(filter(None, [theme.get("path_to_docs", "").strip("/"), f"{docname}.ipynb"]))
    return {
        "Open in Colab": f"{buttons['colab_url']}/github/{repository}/blob/{branch}/{path}",
        "Open in Binder": f"{buttons['binderhub_url']}/v2/gh/{repository}/{branch}?urlpath=lab/tree/{path}",
        "Download the notebook": f"{'../' * docname.count('/')}_sources/{docname}.ipynb",
    }


def times(record: dict[str, Any]) -> dict[str, str]:
    """Say how long a notebook took on a CPU and on a GPU, or that this was not measured.

    Parameters
    ----------
    record : dict
        The record of the run that a notebook's outputs come from (`strflab.book.notebooks.record`).

    Returns
    -------
    dict
        Keys "CPU" and "GPU", the latter with the name of the one that was used.

    Examples
    --------
    >>> fits = {"device": "CPU", "seconds": 1053.6}
    >>> times({"profile": "full", "device": "CPU", "seconds": 29.0, "stored": [fits]})
    {'CPU': 'under a minute from stored results, 18 minutes to fit everything again', 'GPU': 'not measured'}
    """
    measured: dict[str, list[str]] = {"CPU": [], "GPU": []}
    fits = record.get("stored", [])
    if record:
        what = "from stored results" if fits else f"for the {record['profile']} run"
        measured.setdefault(_kind(record["device"]), []).append(f"{_minutes(record['seconds'])} {what}")
    if fits:  # who fits again also draws
        again = record["seconds"] + sum(run["seconds"] for run in fits)
        measured.setdefault(_kind(fits[0]["device"]), []).append(f"{_minutes(again)} to fit everything again")
    if len(measured) > 2:
        del measured["GPU"]  # it has a name
    return {kind: ", ".join(said) or "not measured" for kind, said in measured.items()}


def box(docname: str, record: dict[str, Any], theme: dict[str, Any]) -> str:
    """Return the HTML that stands below a notebook's title; the arguments are those of `links` and `times`."""
    launches = "".join(
        f'<a href="{escape(url)}"{" download" if not url.startswith("https:") else ""}>{name}</a>'
        for name, url in links(docname, theme).items()
    )
    expected = "".join(f"<p><b>{escape(kind)}:</b> {escape(said)}.</p>" for kind, said in times(record).items())
    advice = f'<p class="advice">{GPU_ADVICE}</p>' if record.get("stored") else ""
    return (
        '<aside class="strflab-launch" aria-label="Run this chapter">'
        f'<p class="links">{launches}</p>{expected}{advice}</aside>'
    )


def _insert(app: Any, doctree: Any, docname: str) -> None:
    from docutils import nodes

    path = Path(app.srcdir, f"{docname}.ipynb")
    title = doctree.next_node(nodes.title)
    if app.builder.name == "html" and path.is_file() and title is not None:
        html = box(docname, notebooks.record(notebooks.read(path)), app.config.html_theme_options)
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", html, format="html"))


def _kind(device: str) -> str:
    return "CPU" if device.upper() == "CPU" else f"GPU ({device})"


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "under a minute" if seconds < 60 else f"{minutes} minute{'s' if minutes > 1 else ''}"
