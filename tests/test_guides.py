"""What the guides tell a reader to type runs.

Blocks fenced as ``python`` run in order, those of a page in one namespace. A ``{code-block} python`` looks the same on
the page and has a class that says what it needs: it runs where that is installed, and otherwise must be valid Python.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

GUIDES = sorted((Path(__file__).parents[1] / "book" / "guides").glob("*.md"))
FENCE = re.compile(
    r"^```(?:python|\{code-block\} python\n:class: (?P<needs>[\w-]+))\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
# for each class the package that its blocks need; None: more than a package, a SLURM installation
NEEDS = {
    "needs-pynwb": "pynwb",
    "needs-distributed": "distributed",
    "needs-tensorboard": "tensorboard",
    "needs-slurm": None,
}


def blocks(text):
    """(code, what it needs or None, its first line on the page) of each block."""
    for match in FENCE.finditer(text):
        yield match["code"], match["needs"], text[: match.start("code")].count("\n")


def can_run(needs):
    package = NEEDS[needs] if needs else ""
    return package == "" or (package is not None and find_spec(package) is not None)


def test_blocks_are_told_apart():
    page = "```python\na = 1\n```\n\n```bash\nls\n```\n\n```{code-block} python\n:class: needs-slurm\nb = 2\n```\n"
    assert list(blocks(page)) == [("a = 1\n", None, 1), ("b = 2\n", "needs-slurm", 10)]


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
def test_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path / "results"))
    text = page.read_text("utf8")
    found = list(blocks(text))
    assert len(found) == len(re.findall(r"^```.*python", text, re.MULTILINE))
    module = ModuleType("__main__")  # as in a script: torch.compile and pickle look names up in the module
    monkeypatch.setitem(sys.modules, "__main__", module)
    for code, needs, line in found:
        # as many empty lines as are above the block, so that an error names the line of the page
        program = compile("\n" * line + code, str(page), "exec")
        if can_run(needs):
            exec(program, vars(module))


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
def test_guide_is_in_the_table_of_contents(page):
    assert f"- file: book/guides/{page.stem}\n" in (page.parents[2] / "_toc.yml").read_text("utf8")
