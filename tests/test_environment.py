"""The files that name versions, notebooks and the project's address agree; the notebooks are well formed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from strflab.book import notebooks

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
ADDRESS = CONFIG["repository"]["url"]


def pins(lines: list[str]) -> dict[str, str]:
    """Name and version of each `name==version`."""
    found = (re.fullmatch(r"([\w.-]+)==([\w.+!-]+)", line.strip()) for line in lines)
    return {canonicalize_name(m[1]): m[2] for m in found if m}


LOCK = pins((ROOT / "requirements.lock").read_text("utf8").splitlines())


def test_every_line_of_the_lock_is_a_pin():
    lines = (ROOT / "requirements.lock").read_text("utf8").splitlines()
    assert len(LOCK) == len(lines) > 100


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lock is made with Python 3.11")
def test_lock_is_what_the_asked_for_packages_need():
    if any(version(name).partition("+")[0] != pin for name, pin in LOCK.items()):
        pytest.skip("this environment was not made from the lock")
    command = [sys.executable, str(ROOT / "tools" / "lock.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0


def test_lock_satisfies_the_lower_bounds_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["book"], *extras["test"]]:
        need = Requirement(line)
        assert need.specifier.contains(LOCK[canonicalize_name(need.name)]), line
    for line in project["dependencies"]:
        assert {s.operator for s in Requirement(line).specifier} == {">="}, f"{line}: a hosted notebook keeps its own"


def test_environment_yml_pins_what_the_lock_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    named = pins(pip)
    assert {name: pin.partition("+")[0] for name, pin in named.items()} == {name: LOCK[name] for name in named}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    assert {canonicalize_name(Requirement(line).name) for line in project["dependencies"]} <= set(named)
    assert "python=3.11" in environment["dependencies"]
    assert "-e ." in pip
    for folder in ("binder", ".binder"):
        assert not (ROOT / folder).exists(), f"{folder}/ would hide environment.yml from Binder"


def test_toc_lists_every_notebook():
    text = (ROOT / "_toc.yml").read_text("utf8")
    assert set(re.findall(r"notebooks/(\w+)", text)) == {path.stem for path in CHAPTERS}


def test_every_mention_of_the_repository_has_the_address_of_the_configuration():
    owner = ADDRESS.removeprefix("https://github.com/").removesuffix("/strflab")
    assert re.fullmatch(r"[\w-]+", owner)
    files = [
        "README.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "pyproject.toml",
        *(ROOT / "book").rglob("*.md"),
        *CHAPTERS,
    ]
    files += (ROOT / ".github").rglob("*.yml")
    mentions = [
        found
        for name in files
        for found in re.findall(r"(?:github\.com|/github|/gh)/([\w-]+)/strflab\b", (ROOT / name).read_text("utf8"))
    ]
    assert mentions
    assert set(mentions) <= {owner, "theunissenlab"}  # the latter: where the demo recording comes from


def test_ci_script_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_is_well_formed(path):
    nb = json.loads(path.read_text("utf8"))
    tags = [tag for cell in nb["cells"] for tag in cell["metadata"].get("tags", [])]
    assert nb["metadata"]["kernelspec"]["name"] == "python3"
    assert tags.count("parameters") == 1
    assert "injected-parameters" not in tags
    assert "nbval-check-output" in tags, "no cell states the verdicts that `make test` compares"
    colab = [cell for cell in nb["cells"] if "google.colab" in "".join(cell["source"])]
    assert len(colab) == 1
    source = "".join(colab[0]["source"])
    assert f"!git clone -q --depth 1 {ADDRESS} book\n" in source
    assert "%pip install -q ./book\n" in source
    assert os.path.isdir(ROOT / "results")
    assert 'os.environ["STRFLAB_RESULTS"] = os.path.abspath("book/results")' in source, "a wheel holds no results"
    assert {"remove-cell", "nbval-skip"} <= set(colab[0]["metadata"]["tags"])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_carries_the_outputs_of_a_full_run(path):
    nb = notebooks.read(path)
    assert notebooks.record(nb).get("profile") == "full", "publish a full run: make book PROFILE=full, make publish"
    assert notebooks.problems(nb) == []
    checked = [c for c in notebooks.code_cells(nb) if "nbval-check-output" in c["metadata"].get("tags", [])]
    assert all(cell["outputs"] for cell in checked), "without an output nothing is compared"
