"""What a notebook shows besides figures: numbers for the prose, where they come from, notices."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from strflab.report.run import Run, record
from strflab.report.tables import html_table, markdown_table

RECORD = "strflab"  # key of the record that `provenance` leaves in the metadata of its output


def glue(name: str, value: Any, digits: int | None = None) -> None:
    """Record a value under a name; pages quote it with the `glue:text` role.

    Parameters
    ----------
    name : str
        Unique in the book.
    value : float, int or str
        A number (also of numpy, or a tensor of one element) or a text.
    digits : int, optional
        Decimals to round to, so that the record is the same on every machine.

    Notes
    -----
    The record has the form that scrapbook defined and MyST-NB reads; MyST-NB itself is not needed, so this
    runs on Colab too.
    """
    if hasattr(value, "item"):
        value = value.item()
    if digits is not None:
        value = round(float(value), digits)
    _record(name, {"text/plain": repr(value)})


def provenance(run: Run, *sources: Any, **more: Any) -> None:
    """Show how the numbers above came about: recordings, commit, device, seconds, seed, versions.

    The same facts are left in the notebook as a record, from which the book's table of runs is made.

    Parameters
    ----------
    run : Run
        What `setup` returned.
    *sources : NeuralDataset or Result
        Every data set that the chapter used, or the stored result (`strflab.results`) that it shows.
    **more
        Further rows, such as ``folds=5``.
    """
    facts = record(run, *sources)
    rows = [[f"Data: {ds['name']}", _describe(ds)] for ds in facts["datasets"]]
    rows += [["Stored result", f"of a {_describe_run(came)} on {came['date']}"] for came in facts["stored"]]
    rows += [
        ["Run", _describe_run(facts)],
        ["Versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())],
    ]
    rows += [[name.replace("_", " ").capitalize(), str(value)] for name, value in more.items()]
    head = ["", "How these numbers came about"]
    _display(
        html_table(head, rows, kind="provenance"),
        markdown_table(head, rows),
        "\n".join(f"{name}: {text}" for name, text in rows),
        {RECORD: facts},
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], name: str | None = None) -> None:
    """Show a table of text.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        Cells, one sequence a row; ``**text**`` is bold.
    name : str, optional
        Also record the table under this name, unique in the book; a page shows it with the `glue` directive.
    """
    if name is not None:
        _record(name, {"text/html": html_table(head, rows), "text/plain": markdown_table(head, rows)})
    _display(html_table(head, rows), markdown_table(head, rows), "\n".join("  ".join(row) for row in [head, *rows]))


def banner(text: str) -> None:
    """Show a notice that cannot be overlooked, such as that a recording is not here.

    Parameters
    ----------
    text : str
        One or two sentences.
    """
    style = "border-left: 0.4rem solid #b2182b; padding: 0.6rem 1rem; font-weight: 600"
    page = f'<div class="strflab-banner" role="note" style="{style}">{html.escape(text)}</div>'
    _display(page, f"> **{text}**", text)


def _record(name: str, forms: dict[str, str]) -> None:
    from IPython.display import display

    prefix = "application/papermill.record/"
    display(
        {f"{prefix}{kind}": text for kind, text in forms.items()},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def _display(page: str, markdown: str, plain: str, metadata: dict[str, Any] | None = None) -> None:
    from IPython.display import display

    forms = {"text/html": page, "text/markdown": markdown, "text/plain": plain}
    display(forms, raw=True, metadata=metadata or {})


def _describe(ds: dict[str, Any]) -> str:
    size = f"{_count(ds['neurons'], 'neuron')}, {_count(ds['clips'], 'clip')}, {ds['minutes']:.1f} min"
    return f"{size}; licence: {ds['licence'] or 'none stated'}; content {ds['fingerprint'][:12]}"


def _describe_run(facts: dict[str, Any]) -> str:
    return (
        f"{facts['profile']} run, seed {facts['seed']}, {facts['seconds']:.0f} s on {facts['device']}, "
        f"commit {facts['commit'] or 'unknown'}"
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
