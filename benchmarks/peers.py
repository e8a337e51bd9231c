"""Other libraries, where they are installed: the same models and estimators, for the same work in the same run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from typing import Any


def has(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, what a peer prints or warns of is dropped."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def deepstrf(model: str, n_bands: int, n_neurons: int, **options: Any) -> Any:
    """A model of deepSTRF; `adaptrans_dt_ms` puts its AdapTrans before the model.

    >>> has("deepSTRF") and deepstrf("Linear", 34, 119).out_neurons or 119
    119
    """
    with quiet():
        from deepSTRF.models.audio import audio_zoo
        from deepSTRF.models.prefiltering import make_prefiltering

        dt_ms = options.pop("adaptrans_dt_ms", None)
        if dt_ms is not None:
            options["prefiltering"] = make_prefiltering("adaptrans", n_bands, dt_ms)
        return getattr(audio_zoo, model)(n_frequency_bands=n_bands, out_neurons=n_neurons, **options)
