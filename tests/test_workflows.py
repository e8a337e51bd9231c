"""The workflows of GitHub: what they call exists, on the Pythons that are promised, and they publish what was built."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from strflab.book import site

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
JOBS = {f"{name}/{job}": body for name, flow in WORKFLOWS.items() for job, body in flow["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
PYTHON = re.compile(r"Programming Language :: Python :: (3\.\d+)")


def test_the_pythons_tested_are_those_promised():
    promised = {m[1] for line in PROJECT["classifiers"] if (m := PYTHON.fullmatch(line))}
    locked = JOBS["site/locked"]["steps"][1]["with"]["python-version"]
    newest = JOBS["site/newest"]["strategy"]["matrix"]["python-version"]
    assert {locked, *newest} == promised
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(python) for python in promised)
    assert f"python={locked}" in (ROOT / "environment.yml").read_text("utf8")


def test_every_target_file_and_extra_named_in_a_step_exists():
    commands = "\n".join(step["run"] for step in STEPS if "run" in step)
    makefile = (ROOT / "Makefile").read_text("utf8")
    targets = set(re.findall(r"\bmake (\w+)", commands))
    assert targets == {"test", "site"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    files = set(re.findall(r"\b((?:tools|tests)/[\w/]+\.py)", commands))
    assert files == {"tools/colab.py", "tests/test_quality.py"}
    assert all((ROOT / name).is_file() for name in files)
    assert "def test_tool_finds_nothing" in (ROOT / "tests/test_quality.py").read_text("utf8")
    extras = set(re.search(r'-e "\.\[([\w,]+)\]"', commands)[1].split(","))
    assert extras <= set(PROJECT["optional-dependencies"])


def test_what_is_published_is_what_make_site_builds():
    upload = [step for step in STEPS if step.get("uses", "").startswith("actions/upload-pages-artifact")]
    assert [step["with"]["path"] for step in upload] == [site.HTML.as_posix()]
    assert upload[0] in JOBS["site/locked"]["steps"]
    recipe = (ROOT / "Makefile").read_text("utf8").partition("\ntest:")[2].partition("\n\n")[0]
    assert "\t$(MAKE) site" in recipe.splitlines()
    deploy = JOBS["site/deploy"]
    assert set(deploy["needs"]) == {"locked", "newest"}
    assert deploy["if"] == upload[0]["if"] == "github.ref == 'refs/heads/main'"
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    links = next(step for step in STEPS if "lychee" in step.get("uses", ""))
    assert f"{site.HTML.as_posix()}/book {site.HTML.as_posix()}/notebooks" in links["with"]["args"]


@pytest.mark.parametrize("flow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow_may_only_read_and_ends(flow):
    assert flow["permissions"] == {"contents": "read"}
    assert flow["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 60 for job in flow["jobs"].values())


def test_actions_are_pinned_to_a_major_version():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", name)] == []


# the check of Colab's packages


def colab(tmp_path, step, *lines):
    (tmp_path / "freeze.txt").write_text("# made by pip\nabsl-py==1.4.0\n" + "\n".join(lines) + "\n")
    command = [sys.executable, str(ROOT / "tools" / "colab.py"), step, "freeze.txt"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "torch",
    [
        "torch==2.8.0+cu126",
        "torch @ https://download.pytorch.org/whl/cu126/torch-2.8.0%2Bcu126-cp312-cp312-linux_x86_64.whl#sha256=a8",
    ],
)
def test_pins_are_what_strflab_needs_of_what_colab_has(tmp_path, torch):
    done = colab(tmp_path, "pins", "numpy==2.0.2", torch, "torchvision==0.23.0", "mambapy==1.2.0")
    assert done.stdout.split() == ["numpy==2.0.2", "torch==2.8.0", "mambapy==1.2.0"]


def test_a_list_without_torch_is_refused(tmp_path):
    done = colab(tmp_path, "pins", "numpy==2.0.2")
    assert done.returncode == 1
    assert "no torch" in done.stderr


def test_check_names_what_was_replaced(tmp_path):
    here = f"numpy=={version('numpy')}"
    done = colab(tmp_path, "check", here, "torch==1.0.0+cu100")
    assert done.returncode == 1
    assert done.stderr.startswith("replaced: torch 1.0.0 -> ")
    assert "numpy" not in done.stderr


def test_check_imports_everything_and_runs_the_first_example(tmp_path):
    names = {canonicalize_name(name) for name in ("torch", "numpy", "scipy", "matplotlib")}
    done = colab(tmp_path, "check", *(f"{name}=={version(name)}" for name in sorted(names)))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
