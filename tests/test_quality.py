"""The code's own rules: style, types, size, direction of imports, what importing costs, no paths of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import strflab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "strflab"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each part must not import: dependencies point one way.
FORBIDDEN = {
    "layers": {"models", "fitting", "papers", "sweeps", "results", "report", "plotting", "book"},
    "models": {"fitting", "papers", "sweeps", "results", "report", "plotting", "book"},
    "fitting": {"papers", "sweeps", "report", "plotting", "book"},
    "papers": {"report", "plotting", "book"},
    "data": {"layers", "models", "fitting", "papers", "sweeps", "results", "report", "plotting", "book"},
    "metrics": {"models", "layers", "fitting", "papers", "sweeps", "results", "report", "plotting", "book"},
    "reverse_correlation": {"models", "fitting", "papers", "sweeps", "results", "report", "plotting", "book"},
}
# What imports the command line: nothing but itself and the module that `python -m strflab` runs.
COMMAND_LINE = ("cli", "__main__")
HEAVY = ("matplotlib", "scipy.signal", "pandas", "h5py", "pooch", "IPython", "papermill")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_tool_finds_nothing(command):
    done = run("-m", *command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_no_file_is_too_long_to_read():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > 450} == {}


def imported_parts(path: Path) -> set[str]:
    """Parts of strflab (data, models, ...) that a file imports anywhere."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]  # strflab.models for strflab/models/base.py
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("strflab.")}


def test_imports_are_seen_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "strflab" / "layers" / "x.py"
    path.parent.mkdir(parents=True)
    for line in ("import strflab.models.base", "from strflab import models", "from ..models import Linear"):
        path.write_text(line)
        assert imported_parts(path) == {"models"}
    path.write_text("from .norm import CausalLayerNorm\nimport torch")
    assert imported_parts(path) == {"layers"}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    files = [path for path in MODULES if path.relative_to(PACKAGE).with_suffix("").parts[0] == part]
    wrong = {str(path.relative_to(ROOT)): imported_parts(path) & FORBIDDEN[part] for path in files}
    assert {name: parts for name, parts in wrong.items() if parts} == {}


def test_nothing_imports_the_command_line():
    names = {path: path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}
    assert set(COMMAND_LINE) <= set(names.values())
    others = [path for path, part in names.items() if part not in COMMAND_LINE]
    assert [str(path) for path in others if "cli" in imported_parts(path)] == []


@pytest.mark.parametrize(
    "modules", ["strflab", "strflab, strflab.data, strflab.metrics, strflab.models, strflab.fitting, strflab.report"]
)
def test_importing_stays_light(modules):
    code = f"import sys, torch; before = set(sys.modules); import {modules}; print(*set(sys.modules) - before)"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded & set(HEAVY) == set()


def test_no_file_names_a_folder_of_one_machine():
    pattern = re.compile(r"(?<![\w.~}/-])/(?:" + "|".join(["work", "tmp", "root", "home", "Users"]) + r")/\w")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    ).stdout.decode()
    if not listed:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.split("\0")):
        try:
            text = (ROOT / name).read_text("utf8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


def test_reference_lists_every_part_of_the_library():
    page = "".join(path.read_text("utf8") for path in (ROOT / "book").glob("api*.md"))
    parts = [name for name in strflab._MODULES if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()]
    assert parts
    assert [name for name in parts if f".. automodule:: strflab.{name}\n" not in page] == []
