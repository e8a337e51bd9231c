"""Models of the whole NS1 population: how each is built and fitted, so that chapters 4 to 6 fit each of them once.

All 119 units share a model's core, and the 73 units of Harper et al. 2016 (doi 10.1371/journal.pcbi.1005113) are
scored: the others, of doubtful isolation, help to learn what cortex hears. A model is fitted to all 16 training clips
for a fixed number of epochs, its learning rate going to zero, its weights averaged over steps; nothing looks at the
test clips. Learning rate and weight decay were chosen on four of the training clips (`tools/choose_recipes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab import metrics, models, results
from strflab.data import NeuralDataset, ns1
from strflab.fitting import Recipe
from strflab.papers.forms import draw_time_constants
from strflab.validation import choice

SKIPPED_MS = 200.0  # of each clip, which no score counts: there a 200 ms filter has not heard all that it could
TOLERANCE = 1e-3  # between a stored score and that of the stored predictions
SEEDS = (0, 1, 2)
RECIPE = Recipe(
    loss="nmse",
    learning_rate=3e-3,
    schedule="cosine",
    warmup=3,
    ema=0.95,
    gradient_clip=1.0,
    weight_decay=0.3,
    batch_size=2,
    epochs=60,
    patience=60,
)


@dataclass(frozen=True)
class Spec:
    """A model of `strflab.models`, by class and options, what figures call it, and its departures from `RECIPE`.

    Parameters
    ----------
    label : what figures call it
    model : name of its class
    options : arguments of the class
    recipe : settings that differ from `RECIPE`
    """

    label: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)


SOFTPLUS = {"output_activation": "parametric_softplus"}
RANK_3 = {"temporal_window_size": 40, "kernel": {"type": "separable", "rank": 3}}
FAST = {"learning_rate": 1e-2}
SPECS: dict[str, Spec] = {
    "linear": Spec("linear", "Linear", RANK_3),
    "ln": Spec("LN", "LinearNonlinear", RANK_3),
    "nrf": Spec("NRF", "NetworkReceptiveField", {"temporal_window_size": 20, "n_hidden": 60}, {"weight_decay": 1.0}),
    "dnet": Spec(
        "DNet",
        "DNet",
        {"temporal_window_size": 5, "n_hidden": 100, "norm": False, **SOFTPLUS},
        {"learning_rate": 1e-2, "batch_size": 1, "epochs": 40, "patience": 40},
    ),
    "cnn1d": Spec("1D-CNN", "ConvNet1D", {"temporal_window_size": 40}, {"weight_decay": 1.0}),
    "cnn2d": Spec("2D-CNN", "ConvNet2D", {"n_hidden": 60}, {"epochs": 40, "patience": 40}),
    "transformer": Spec(
        "Transformer",
        "Transformer",
        {"time_patch_size": 20, "context_window": 20, "position": "rope", "n_layers": 2, "n_heads": 4, **SOFTPLUS},
        {"weight_decay": 1.0},
    ),
    "rnn": Spec("StateNet-RNN", "StateNet", {"rnn_type": "RNN"}, {"learning_rate": 2e-3, "epochs": 90, "patience": 90}),
    "lstm": Spec("StateNet-LSTM", "StateNet", {"rnn_type": "LSTM"}, FAST),
    "gru": Spec("StateNet-GRU", "StateNet", {"rnn_type": "GRU"}, FAST),
    "gru_wide": Spec("StateNet-GRU, wide", "StateNet", {"rnn_type": "GRU", "hidden_channels": 12}),
    "lmu": Spec("StateNet-LMU", "StateNet", {"rnn_type": "LMU"}),
    "s4": Spec("StateNet-S4", "StateNet", {"rnn_type": "S4"}, FAST),
    "s4d": Spec("StateNet-S4D", "StateNet", {"rnn_type": "S4D"}, FAST),
    "mamba": Spec("StateNet-Mamba", "StateNet", {"rnn_type": "Mamba"}, FAST),
}


def build(name: str, n_bands: int, n_neurons: int, **options: Any) -> models.Model:
    """Return a new model.

    Parameters
    ----------
    name : a key of `SPECS`
    n_bands, n_neurons : F, N
    **options : arguments of the model's class that win over those of its spec, such as ``prefiltering``
    """
    spec = SPECS[choice("name", name, SPECS)]
    arguments = {"n_frequency_bands": n_bands, "out_neurons": n_neurons, **spec.options, **options}
    model = models.build(spec.model, **arguments)
    if isinstance(model, models.DNet):
        draw_time_constants(model)
    return model


def recipe(name: str, seed: int = 0, **settings: Any) -> Recipe:
    """Return the recipe of a model; `settings` win over those of its spec.

    Parameters
    ----------
    name : a key of `SPECS`
    seed : of weights and clip order
    **settings : of `strflab.fitting.Recipe`
    """
    spec = SPECS[choice("name", name, SPECS)]
    return replace(RECIPE, **{**spec.recipe, **settings}, seed=seed)


def fit(
    names: Iterable[str],
    ds: NeuralDataset,
    *,
    seeds: Sequence[int] = SEEDS,
    device: str | torch.device = "cpu",
    n_jobs: int | None = None,
    progress: bool = True,
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, list[results.StoredFit]]:
    """Return the stored fits of some models, one a seed; those that are missing are run.

    Parameters
    ----------
    names : keys of `SPECS`
    ds : NS1 (or a set with its 20 clips); the neurons that are in it are the model's
    seeds : of weights and clip order
    device, n_jobs, progress : see `strflab.results.fit_all`
    options, settings : see `build` and `recipe`, for all of these models
    """
    names = list(names)
    train, test = ns1.paper_split(ds)
    wanted = [
        {
            "build": partial(build, name, ds.n_bands, ds.n_neurons, **(options or {})),
            "train": train,
            "recipe": recipe(name, seed, **(settings or {})),
            "test": test,
            "name": SPECS[name].label,
        }
        for name in names
        for seed in seeds
    ]
    done = iter(results.fit_all(wanted, n_jobs=n_jobs, device=device, progress=progress))
    return {name: [next(done) for _ in seeds] for name in names}


def standardized(stimuli: Iterable[Tensor]) -> list[Tensor]:
    """Return sounds (F, T_k) on the scale that the recipes were chosen for: mean 0 and variance 1 over all of them.

    Parameters
    ----------
    stimuli : sounds (F, T_k)
    """
    sounds = list(stimuli)
    mean, sd = scale(sounds)
    return [(x - mean) / sd for x in sounds]


def scale(stimuli: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (1 if there is none) over all of some sounds.

    Parameters
    ----------
    stimuli : spectrograms (F, T_k)
    """
    every = torch.cat(list(stimuli), 1)
    mean, sd = every.mean(), every.std()
    return mean, torch.where(sd > 0, sd, 1.0)


@torch.no_grad()
def predict(model: models.Model, ds: NeuralDataset) -> np.ndarray:
    """Return the rates (clips, N, T) that a model predicts for clips of equal length.

    Parameters
    ----------
    model : of all of its neurons
    ds : clips of equal length
    """
    like = next(model.parameters())
    return np.stack([model(x[None, None].to(like))[0, :, 0].float().cpu().numpy() for x in ds.stimuli])


def predict_fits(fits: Sequence[results.StoredFit], ds: NeuralDataset, units: np.ndarray) -> np.ndarray:
    """Return the rates (fits, clips, n, T) that fits of all neurons predict for some of them, (n,) indices.

    Parameters
    ----------
    fits : of one model, one a seed
    ds : clips of equal length
    units : (n,) which of the models' neurons
    """
    return np.stack([predict(kept.model, ds)[:, units] for kept in fits])


def score(prediction: np.ndarray, ds: NeuralDataset, skipped_ms: float = SKIPPED_MS) -> np.ndarray:
    """Return CCnorm (N,) over the concatenated clips, their first `skipped_ms` left out.

    Parameters
    ----------
    prediction : (clips, N, T) rates
    ds : the same clips and neurons
    """
    skip = round(skipped_ms / ds.dt_ms)
    rates = [p[:, skip:] for p in prediction]
    return np.asarray(metrics.normalized_corrcoef(rates, [r[..., skip:].numpy() for r in ds.responses]))


def check_scores(
    name: str, prediction: np.ndarray, stored: np.ndarray, ds: NeuralDataset, units: np.ndarray | Sequence[int]
) -> None:
    """Score stored predictions for NS1's test clips again, on the recording.

    Parameters
    ----------
    name : of the model, for the error
    prediction : (clips, n, T) rates
    stored : (n,) the scores that were stored with them
    ds : the recording
    units : (n,) which of its neurons these are

    Raises
    ------
    ValueError : a score differs from the stored one by more than `TOLERANCE`
    """
    again = score(prediction, ns1.paper_split(ds)[1].select(neurons=np.asarray(units).tolist()))
    if not np.allclose(again, stored, atol=TOLERANCE, equal_nan=True):
        off = float(np.nanmax(np.abs(again - stored)))
        raise ValueError(
            f"stored predictions of {name!r} do not give their stored scores (off by {off:.2g}): run the chapter with "
            "refit=True"
        )


def in_paper(ds: NeuralDataset) -> np.ndarray:
    """Return which neurons of NS1 are the paper's 73, (N,) indices; of a simulated set all.

    Parameters
    ----------
    ds : NS1, or the set that stands in for it
    """
    if ds.name == "simulated":
        return np.arange(ds.n_neurons)
    return np.flatnonzero([ns1.in_paper(neuron) for neuron in ds.neurons])
