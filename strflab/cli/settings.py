"""What a model's name on the command line means: its class, its settings and the recipe that fits it.

Networks have the settings with which chapters 4 to 6 fit the NS1 population (`strflab.papers.population`). Lengths
that those give in frames of 5 ms are converted to the frames of the data.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from typing import Any

from strflab import models
from strflab.cli.text import UsageError
from strflab.data.ns1 import DT_MS
from strflab.fitting import Recipe
from strflab.papers import population
from strflab.reverse_correlation import RidgeSTRF

RIDGE = "ridge"
HISTORY_MS = 200.0  # of ridge, as in the NS1 baseline
BY_CLASS = {"statenet": "gru"}  # of a class with several settings, those that its name means
IN_FRAMES = ("temporal_window_size", "time_patch_size")
FROM_DATA = {"n_frequency_bands": "bands of the sound", "out_neurons": "neurons"}
RECIPE_CLIPS = 16  # of the training set for which the recipes were chosen


def names() -> list[str]:
    """The models that can be fitted."""
    return [RIDGE, *population.SPECS]


def find(name: str) -> str:
    """Return the model that a name or a class's name, in any case, means.

    >>> find("StateNet"), find("LN"), find("RidgeSTRF")
    ('gru', 'ln', 'ridge')
    """
    wanted = name.lower().replace("-", "_")
    known = {key: key for key in names()} | {RidgeSTRF.__name__.lower(): RIDGE} | BY_CLASS
    for key, spec in population.SPECS.items():
        known.setdefault(spec.model.lower(), key)
    if wanted in known:
        return known[wanted]
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(f"no model {name!r}{hint}: there are {', '.join(names())}")


def class_of(name: str) -> type:
    """The class behind a model's name."""
    return RidgeSTRF if name == RIDGE else models.ZOO[population.SPECS[name].model]


def options_of(name: str, dt_ms: float = DT_MS) -> dict[str, Any]:
    """The settings of a model, lengths in frames of `dt_ms`."""
    if name == RIDGE:
        return {"n_lags": max(1, round(HISTORY_MS / dt_ms))}
    options = dict(population.SPECS[name].options)
    for key in IN_FRAMES:
        if key in options:
            options[key] = max(1, round(options[key] * DT_MS / dt_ms))
    return options


def build(name: str, n_bands: int, n_neurons: int, dt_ms: float, chosen: dict[str, Any]) -> models.Model:
    """Return a new network for these data; `chosen` settings win."""
    allowed = [key for key in inspect.signature(class_of(name)).parameters if key not in FROM_DATA]
    for key in chosen:
        if key in FROM_DATA:
            raise UsageError(f"--set {key}: the data decide it")
        if key == "wav2spec":
            raise UsageError("--set wav2spec: a data set holds spectrograms; fit waveforms with strflab.fitting.fit")
        if key not in allowed:
            raise UsageError(f"--set {key}: {name} takes {', '.join(allowed)}")
    return population.build(name, n_bands, n_neurons, **options_of(name, dt_ms) | chosen)


def recipe(name: str, chosen: dict[str, Any], n_clips: int = RECIPE_CLIPS) -> Recipe:
    """Return the recipe of a network; `chosen` settings win.

    With fewer training clips than the recipes were chosen for there are more epochs, so that there are as many steps.
    """
    penalties = chosen.get("penalties", [])
    if not isinstance(penalties, list) or not all(
        isinstance(p, dict) and {"kind", "strength"} <= {*p} for p in penalties
    ):
        raise UsageError('--recipe penalties: must be a list such as [{"kind":"l1","strength":1e-4}], quoted')
    usual = population.recipe(name).to_dict()
    batch = chosen.get("batch_size", usual["batch_size"])
    if not {"epochs", "patience"} & {*chosen} and isinstance(batch, int) and batch > 0 and n_clips > 0:
        more = math.ceil(usual["epochs"] * math.ceil(RECIPE_CLIPS / usual["batch_size"]) / math.ceil(n_clips / batch))
        usual["epochs"] = usual["patience"] = max(usual["epochs"], more)
    return Recipe.from_dict(usual | chosen)


def summary(cls: type) -> str:
    """The first sentence of a class's documentation, to its first semicolon."""
    return re.split(r"\. |; ", _paragraph(inspect.getdoc(cls) or ""))[0].rstrip(".")


def arguments(cls: type) -> list[dict[str, Any]]:
    """Name, default and meaning of each argument of a class; what its own words leave out its bases say."""
    documented: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        documented |= _fields(vars(base).get("__doc__") or "")
    rows = []
    for key, parameter in inspect.signature(cls).parameters.items():
        if key in ("device", "wav2spec"):  # has an option of its own; a data set holds spectrograms
            continue
        what = f"{FROM_DATA[key]}; the data decide it" if key in FROM_DATA else documented.get(key, "")
        if key == "output_activation":
            what += f"; here {cls.default_activation}"  # type: ignore[attr-defined]
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        rows.append({"argument": key, "default": default, "what": what})
    return rows


def _fields(doc: str) -> dict[str, str]:
    """What the section "Parameters" of a docstring says of each name; a reference to another class says nothing."""
    _, _, section = inspect.cleandoc(doc).partition("Parameters\n----------\n")
    section = re.split(r"\n\n|\n\w+\n-{3,}", section)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        head, colon, words = entry.partition(" : ")
        if colon and not words.startswith("see `Model`"):
            found |= dict.fromkeys(head.split(", "), _paragraph(words))
    return found


def _paragraph(text: str) -> str:
    """The first paragraph on one line, without the marks of reST."""
    return " ".join(text.split("\n\n")[0].replace("`", "").split())
