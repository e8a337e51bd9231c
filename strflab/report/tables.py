"""Tables of text, in HTML and in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """HTML of a table that scrolls in a box of its own when the page is narrower; ``**text**`` is bold."""

    def cell(text: str) -> str:
        return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))

    top = "".join(f'<th scope="col">{cell(text)}</th>' for text in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(text)}</td>" for text in row) + "</tr>\n" for row in rows)
    return (
        f'<div class="strflab-table {kind}" style="overflow-x: auto" tabindex="0">\n<table class="table">\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>"
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
