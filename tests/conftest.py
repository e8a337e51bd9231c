"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strflab import data


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
