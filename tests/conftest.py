"""Fixtures that several test files share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strflab import cli, data


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for the network; those of the fetching code unset this for a server of their own."""
    monkeypatch.setenv("STRFLAB_OFFLINE", "1")


@pytest.fixture
def recordings() -> Callable[..., data.NeuralDataset]:
    """Return `data.load`, which here skips the test where the recording is not on this machine."""

    def load(name: str, **options: object) -> data.NeuralDataset:
        if not data.is_here(name):
            pytest.skip(f"the recording {name!r} is not here: set STRFLAB_DATA")
        return data.load(name, **options)

    return load


# ---- the command line


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No recording is here, nothing is stored, and the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRFLAB_DATA", raising=False)
    monkeypatch.delenv("STRFLAB_DEVICE", raising=False)
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def strflab(own_folders: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its status, standard output and standard error."""

    def run(*argv: object) -> tuple[int, str, str]:
        status = cli.main([str(word) for word in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def succeeds(strflab: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Run a command that must work; return what it printed, parsed if it is JSON."""

    def run(*argv: object) -> Any:
        status, out, err = strflab(*argv)
        assert status == 0, err
        return json.loads(out) if "--json" in argv else out

    return run


@pytest.fixture
def ax():
    """Axes to draw on, gone with the test."""
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)
