"""What all commands share: their parser, errors of usage, tables, JSON, and values written as key=value."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

WORDS = {"none": None, "null": None, "true": True, "false": False}


class UsageError(ValueError):
    """The command was wrong; the message says what to do."""


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps its lines, and whose errors are one line that names the help."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError in place of printing the usage."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_json(parser: argparse.ArgumentParser, again: bool = False) -> None:
    """Add --json; `again` where the command above has it too, and what was given there must stand."""
    default = argparse.SUPPRESS if again else False
    parser.add_argument("--json", action="store_true", default=default, help="print JSON, for scripts")


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Inside, a wrong value is an error of usage: what the library refuses was asked for by the command."""
    try:
        yield
    except (ValueError, TypeError, IndexError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error


def key_values(option: str, words: Iterable[str]) -> dict[str, Any]:
    """Return what words such as n_hidden=20, norm=none or kernel_size=[3,9] say: JSON values, or text.

    >>> key_values("--set", ["n_hidden=20", "norm=none", "rnn_type=LSTM", "kernel_size=[3,9]"])
    {'n_hidden': 20, 'norm': None, 'rnn_type': 'LSTM', 'kernel_size': [3, 9]}
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"{option} {word}: must be key=value, such as n_hidden=20")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = WORDS.get(value.lower(), value)
    return found


def as_words(settings: Mapping[str, Any]) -> str:
    """Return settings as `key_values` reads them, with commas.

    >>> as_words({"n_hidden": 20, "norm": None})
    'n_hidden=20, norm=none'
    """
    return ", ".join(f"{key}={_word(value)}" for key, value in settings.items())


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, separators=(",", ":"), default=str)


def counted(n: int, what: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "clip"), counted(2, "clip")
    ('1 clip', '2 clips')
    """
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def as_json(value: Any) -> str:
    """Return a value as JSON: NaN, which JSON has not, as null."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned text, numbers to the right, under a line of the columns' names."""
    cells = [[_cell(row.get(name), ".3g" if name == "seconds" else ".3f") for name in columns] for row in rows]
    right = [bool(rows) and all(_is_number(row.get(name)) for row in rows) for name in columns]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    lines = [
        "  ".join(one.rjust(w) if r else one.ljust(w) for one, w, r in zip(line, widths, right)).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else format(value, form)
    return str(value)


def indices(option: str, text: str, size: int) -> list[int]:
    """Return the indices that text such as "3,6,9" or "0-3" names, of `size` things counted from 0.

    >>> indices("--test-clips", "0-2,9", 10)
    [0, 1, 2, 9]
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"{option} {text}: must be numbers and ranges from 0 to {size - 1}, such as 0-3,9")
        found += range(int(first), int(last or first) + 1)
    if wrong := [i for i in found if i >= size]:
        raise UsageError(f"{option} {text}: there is no {wrong[0]}; the last is {size - 1}")
    if len(set(found)) != len(found) or not found:
        raise UsageError(f"{option} {text}: must name each once")
    return found


def spans(numbers: Sequence[int]) -> str:
    """Return indices as `indices` reads them.

    >>> spans([0, 1, 2, 9])
    '0-2,9'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
