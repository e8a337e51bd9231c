"""What the guides, the start page and the README tell a reader to type runs, and prints what they say it prints.

Blocks fenced as ``python`` run in order, those of a page in one namespace. A ``{code-block} python`` looks the same on
the page and has a class that says what it needs: it runs where that is installed, and otherwise must be valid Python.
A ``text`` block is what the block above it prints, its numbers to within a few hundredths.
"""

import contextlib
import io
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "book" / "guides").glob("*.md"))
PAGES = [*GUIDES, ROOT / "book" / "start.md", ROOT / "README.md"]
FENCE = re.compile(
    r"^```(?:python|\{code-block\} python\n:class: (?P<needs>[\w-]+))\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
PRINTED = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d*")
# for each class the package that its blocks need; None: more than a package, a SLURM installation or a GPU
NEEDS = {
    "needs-pynwb": "pynwb",
    "needs-distributed": "distributed",
    "needs-tensorboard": "tensorboard",
    "needs-slurm": None,
    "needs-cuda": None,
}
TOLERANCE = 0.06  # of a printed score, which another machine's rounding may move over a fit


def blocks(text):
    """(code, what it needs or None, its first line on the page, what the page says that it prints or None)."""
    found = list(FENCE.finditer(text))
    for match, following in zip(found, [*found[1:], None]):
        until = following.start() if following else len(text)
        shown = PRINTED.search(text, match.end(), until)
        yield match["code"], match["needs"], text[: match.start("code")].count("\n"), shown and shown[1]


def can_run(needs):
    if needs == "needs-cuda":
        return torch.cuda.is_available()
    package = NEEDS[needs] if needs else ""
    return package == "" or (package is not None and find_spec(package) is not None)


def same(printed, shown):
    """Whether two texts are alike but for small differences of their decimal numbers."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", shown).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown))
    return all(abs(float(a) - float(b)) < TOLERANCE for a, b in pairs)


def test_blocks_are_told_apart():
    page = "```python\na = 1\n```\n\n```bash\nls\n```\n\n```{code-block} python\n:class: needs-slurm\nb = 2\n```\n"
    assert list(blocks(page)) == [("a = 1\n", None, 1, None), ("b = 2\n", "needs-slurm", 10, None)]
    page = "```python\nprint(1)\n```\nIt prints\n```text\n1\n```\n\n```python\nb = 2\n```\n"
    assert [shown for *_, shown in blocks(page)] == ["1\n", None]


def test_printed_numbers_may_differ_a_little():
    assert same("[0.91  0.5]\n", "[0.93 0.5]")
    assert not same("[0.91 0.5]", "[0.71 0.5]")
    assert not same("(4, 34)", "(4, 33)")
    assert not same("[0.9 0.9]", "[0.9]")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path / "results"))
    text = page.read_text("utf8")
    found = list(blocks(text))
    assert len(found) == len(re.findall(r"^```.*python", text, re.MULTILINE))
    module = ModuleType("__main__")  # as in a script: torch.compile and pickle look names up in the module
    monkeypatch.setitem(sys.modules, "__main__", module)
    torch.manual_seed(0)
    for code, needs, line, shown in found:
        # as many empty lines as are above the block, so that an error names the line of the page
        program = compile("\n" * line + code, str(page), "exec")
        if can_run(needs):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(program, vars(module))
            if shown is not None:
                assert same(printed.getvalue(), shown), f"{page.name}: prints\n{printed.getvalue()}not\n{shown}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
def test_guide_is_in_the_table_of_contents(page):
    assert f"- file: book/guides/{page.stem}\n" in (page.parents[2] / "_toc.yml").read_text("utf8")
