"""The page on the command line: its commands run and print what it shows, and no command is missing from it.

Blocks fenced as ``console`` run in order, `python` blocks between them, all in one empty folder. Words must be those of
the page; numbers may differ, scores by a little. Blocks with the class ``not-run`` need a network or a clone: their
commands must be understood.
"""

from __future__ import annotations

import argparse
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from strflab.cli import main, parser

PAGE = (Path(__file__).parents[1] / "book" / "cli.md").read_text("utf8")
FENCE = re.compile(
    r"^```(?P<kind>python|console|\{code-block\} console\n:class: not-run)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
KEY_OR_DATE = re.compile(r"\b[0-9a-f]{16}\b|\b\d{4}-\d\d-\d\d\b")
SCORES_AGREE = 0.05  # another machine's rounding grows over the epochs of a fit


def commands(text):
    """(words after strflab, output) of each command of a block."""
    starts = [m.start() for m in re.finditer(r"^\$ ", text, re.MULTILINE)]
    for start, end in pairwise([*starts, len(text)]):
        line, _, output = text[start:end].partition("\n")
        assert line.startswith("$ strflab "), line
        yield shlex.split(line)[2:], output


def words(output):
    """The output without its numbers and alignment."""
    return NUMBER.sub("#", KEY_OR_DATE.sub("*", output)).replace("-", "").split()


def scores(output):
    """The numbers of the lines that state scores, but for p values."""
    lines = [line.partition(", p =")[0] for line in output.splitlines() if " [" in line]
    return [float(number) for line in lines for number in NUMBER.findall(line)]


def documented():
    """Every command of the page, those that run and those that do not."""
    blocks = [m["text"] for m in FENCE.finditer(PAGE) if m["kind"] != "python"]
    return [argv for text in blocks for argv, _ in commands(text)]


def test_numbers_may_differ_and_words_may_not():
    assert words("a  0.12 [-1, 2e-5]\n2026-01-02") == words("a -3   [4, 5] 2026-11-12")
    assert words("a 1") != words("b 1")
    assert scores("mean 0.5 [0.4, 0.6], p = 3\nn 7") == [0.5, 0.4, 0.6]


def test_every_fence_of_the_page_is_one_of_the_three():
    assert len(FENCE.findall(PAGE)) == len(re.findall(r"^```\S", PAGE, re.MULTILINE))


def test_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRFLAB_DATA", raising=False)
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path / "results"))
    for block in FENCE.finditer(PAGE):
        if block["kind"] == "python":
            exec(block["text"], {"__name__": "__main__"})
        elif block["kind"] == "console":
            for argv, shown in commands(block["text"]):
                status = main(argv)
                out, err = capfd.readouterr()
                told = err + out
                assert status == (2 if "fits/x" in argv else 0), told
                assert words(told) == words(shown), f"strflab {shlex.join(argv)} prints\n{told}"
                assert scores(told) == pytest.approx(scores(shown), abs=SCORES_AGREE), shlex.join(argv)


@pytest.mark.parametrize("argv", documented(), ids=shlex.join)
def test_command_of_the_page_is_understood(argv):
    assert callable(parser().parse_args(argv).run)


def leaves(top, path=()):
    """The words of every command that has no further commands below it."""
    below = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for name, sub in action.choices.items():
            yield from leaves(sub, (*path, name))
    if not below:
        yield path


@pytest.mark.parametrize("path", list(leaves(parser())), ids=" ".join)
def test_every_command_is_on_the_page(path):
    assert any(tuple(argv[: len(path)]) == path for argv in documented()) or path == ("data", "list")
