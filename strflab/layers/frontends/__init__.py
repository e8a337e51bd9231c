"""Front-ends (`wav2spec`): from a waveform to a spectrogram inside a model, fixed or learned with it."""

from __future__ import annotations

from typing import Any

from strflab.layers.config import make_part
from strflab.layers.frontends.base import Frontend
from strflab.layers.frontends.cochleagrams import LogMel, NS1Cochleagram, Rahman2020Cochleagram
from strflab.layers.frontends.filterbanks import LEAF, Gammatone, SincNet

__all__ = [
    "LEAF",
    "Frontend",
    "Gammatone",
    "LogMel",
    "NS1Cochleagram",
    "Rahman2020Cochleagram",
    "SincNet",
    "make_frontend",
]

FRONTENDS: dict[str, type] = {
    "logmel": LogMel,
    "gammatone": Gammatone,
    "ns1": NS1Cochleagram,
    "rahman2020": Rahman2020Cochleagram,
    "sincnet": SincNet,
    "leaf": LEAF,
}


def make_frontend(name: str, spec: Any, n_bands: int) -> Frontend:
    """Return the front-end that `spec` asks for.

    Parameters
    ----------
    name : the argument's name, for errors
    spec : "logmel", "gammatone", "ns1", "rahman2020", "sincnet" or "leaf", a dict with such a name as "type" and its
        options (the sample rate above all: by default it is that of NS1, 48,828 Hz), or a `Frontend`
    n_bands : F

    Raises
    ------
    ValueError : no such front-end, or one made for another number of bands

    Examples
    --------
    >>> make_frontend("wav2spec", {"type": "logmel", "sample_rate": 32_000, "dt_ms": 1.0}, 34).dt_ms
    1.0
    """
    if isinstance(spec, str):
        spec = {"type": spec}
    if isinstance(spec, dict):
        spec = {"n_bands": n_bands} | spec
    frontend = make_part(name, spec, Frontend, FRONTENDS)
    if frontend.n_bands != n_bands:
        raise ValueError(f"{name}={spec!r}: made for {frontend.n_bands} bands, must be {n_bands}")
    return frontend
