"""Sphinx extension: read our docstrings, whose sections hold one `name : what it is` a line, as NumPy style.

In NumPy style the words after the colon are a type, set in italics, and the description stands below. Ours are
mostly the description itself, and this extension moves it there before napoleon reads the docstring. A short line
with an indented description below it is left as it is. An indented paragraph is an equation or code and keeps its
lines; a bar, as in |h|^2, is a bar, and strf_ a name.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

FIELDS = ("Parameters", "Other Parameters", "Attributes", "Raises", "Keyword Arguments")
RESULTS = ("Returns", "Yields")
FIELD = re.compile(r"(\*{0,2}\w+(?:\.\w+)*(?:, \*{0,2}\w+)*)(?: : (.*))?$")
TYPE_LINE = 90  # a first line longer than this was broken because it is a sentence, not a type
LISTED = re.compile(r"[-*] |\d+\. |\.\. ")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, ahead of napoleon."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def as_numpy_style(lines: list[str]) -> list[str]:
    """Return the lines of a docstring with its field sections in NumPy style.

    Examples
    --------
    >>> as_numpy_style(["Parameters", "----------", "x : the sound"])
    ['Parameters', '----------', 'x', '    the sound', '']
    """
    out: list[str] = []
    section, above = "", ""  # the section we are in, and the last flush line above
    for block in _blocks(lines):
        if len(block) > 1 and re.fullmatch(r"-{3,}", block[1]):
            section = block[0]
            head, block = block[:2], block[2:]
            if section in FIELDS and not _are_fields(block):
                section, head = "", [f".. rubric:: {section}", ""]
            out += head
        elif section in FIELDS and _is_flush(block[0]) and not _are_fields(block):
            section = ""
            out.append("")  # napoleon ends a section at two blank lines
        elif not section and len(block) > 1 and _is_flush(block[0]) and _are_fields(block):
            section = "Parameters"  # a list of fields without a header
            out += [section, "-" * len(section)]

        if section in FIELDS:
            out += [line if _is_flush(line) else _escape(line) for line in _fields(block)]
        elif block and block[0].startswith(">>>"):
            out += block
        elif block and not _is_flush(block[0]) and section not in RESULTS:
            literal = above.endswith("::") or LISTED.match(above)
            out += block if literal else ["::", "", *block]
        else:
            out += [_escape(line) for line in block]
        out.append("")
        above = next((line for line in reversed(block) if _is_flush(line)), above)
    return out


def _blocks(lines: list[str]) -> list[list[str]]:
    """Split at blank lines."""
    return [list(group) for filled, group in groupby(lines, key=lambda line: bool(line.strip())) if filled]


def _are_fields(block: list[str]) -> bool:
    """Tell whether each flush line of a block is `name`, `name : words` or `name, name : words`."""
    flush = [line for line in block if _is_flush(line)]
    return all(FIELD.match(line) for line in flush) and any(" : " in line or len(block) > 1 for line in flush)


def _fields(block: list[str]) -> list[str]:
    """Move the words after the colon below the name, unless they are a type."""
    out: list[str] = []
    for line, below in zip(block, [*block[1:], ""]):
        match = FIELD.match(line)
        is_type = below.startswith(" ") and (len(line) < TYPE_LINE or line.endswith("optional"))
        out += [match[1], f"    {match[2]}"] if match and match[2] and not is_type else [line]
    return out


def _is_flush(line: str) -> bool:
    return bool(line) and not line[0].isspace()


def _escape(line: str) -> str:
    """Take from bars and final underscores outside of code their meaning in reST."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(p if p.startswith("`") else re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", p) for p in parts)


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_numpy_style(lines)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, of which Python says only their number."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None
