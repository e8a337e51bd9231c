"""Readouts on a core that stays as it is: a population's refitted a neuron at a time, or new ones for new neurons.

A population model is a core that all neurons share and a readout; once the core is fitted, its channels are computed
once and each neuron's readout is a small model of its own, fitted, stopped and scored by itself. Pennington & David
2023, doi 10.1371/journal.pcbi.1011110.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strflab.data import NeuralDataset
from strflab.fitting import Recipe
from strflab.layers.causal import layer_memory
from strflab.layers.config import from_config
from strflab.models import Model
from strflab.sweeps.many import fit_many
from strflab.sweeps.members import Member, Sweep


def refit_readout(
    model: Model,
    dataset: NeuralDataset,
    recipe: Recipe | None = None,
    *,
    train: Sequence[int],
    validation: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Model, Sweep]:
    """Return a copy of a fitted population model whose readout was fitted further, each neuron by itself.

    What the neurons share stays as it is: the core, and of a readout with a hidden layer that layer. A neuron whose fit
    failed keeps its readout.

    Parameters
    ----------
    model : a fitted model of `strflab.models` with the neurons of `dataset`; left as it is
    dataset : the recording
    recipe : as for `strflab.fitting.fit`; penalties' patterns are on the names of the readout's parameters
    train, validation : indices of clips; None: the training clips
    **options : of `strflab.sweeps.fit_many`

    Returns
    -------
    model, sweep : in evaluation mode; a member a neuron

    Raises
    ------
    ValueError : the model is of another number of neurons, or cannot be described in a config
    """
    if not isinstance(model, Model):
        raise ValueError(f"model={type(model).__name__}: must be a strflab.models.Model")
    if model.out_neurons != dataset.n_neurons:
        raise ValueError(f"model: out_neurons={model.out_neurons}, the data set has {dataset.n_neurons}")
    recipe = recipe or Recipe()
    refitted = copy.deepcopy(model).cpu().eval()
    heard = _channels(refitted, dataset)
    own = _own_parameters(refitted)
    starts = [_one_neuron(refitted, n, own, heard) for n in range(dataset.n_neurons)]
    members = [Member(n, train, validation, recipe) for n in range(dataset.n_neurons)]
    sweep = fit_many(starts, heard, members, **options)
    state = refitted.readout.state_dict()
    for n, fitted in enumerate(sweep.models()):
        if fitted is not None:
            for name in own:
                state[name][n] = fitted.state_dict()[f"readout.{name}"][0].to(state[name])
    return refitted, sweep


def transfer(
    model: Model,
    dataset: NeuralDataset,
    recipe: Recipe | None = None,
    *,
    train: Sequence[int],
    validation: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Model, Sweep]:
    """Return a model of other neurons: the core of a model fitted to some, and a new readout for each of these.

    Parameters
    ----------
    model : fitted to other neurons; left as it is
    dataset : the new neurons, which heard sounds of the same bands and frames
    recipe, train, validation, **options : as for `refit_readout`; the recipe's seed is that of the new readouts

    Returns
    -------
    model, sweep : as from `refit_readout`
    """
    if not isinstance(model, Model):
        raise ValueError(f"model={type(model).__name__}: must be a strflab.models.Model")
    recipe = recipe or Recipe()
    fresh = _like(model, dataset.n_neurons, recipe.seed)
    own = _own_parameters(model)
    shared = {f"readout.{name}" for name in own}
    kept = {name: t.cpu() for name, t in model.state_dict().items() if name not in shared}
    fresh.load_state_dict(fresh.state_dict() | kept)
    return refit_readout(fresh, dataset, recipe, train=train, validation=validation, **options)


class ReadoutOfChannels(nn.Module):
    """A readout that hears the core's channels (B, 1, C F, T) in place of a spectrogram."""

    fitted = False  # as in strflab.models.Model

    def __init__(self, readout: nn.Module, shape: tuple[int, int]):
        super().__init__()
        self.readout, self.shape, self.memory = readout, shape, layer_memory(readout)
        self.out_neurons, self.n_frequency_bands = 1, shape[0] * shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(x.squeeze(1).unflatten(1, self.shape))


class _Channels(NeuralDataset):
    """The data set with the core's channels (C F, T_k) for stimuli."""

    shape: tuple[int, int]


@torch.no_grad()
def _channels(model: Model, dataset: NeuralDataset) -> _Channels:
    found = []
    for stimulus in dataset.stimuli:
        x = stimulus[None, None].to(next(model.parameters()))
        for name, stage in model.stages():
            if name != "readout":
                x = stage(x)
        found.append(x[0])  # (C, F, T)
    heard = _Channels(
        [x.flatten(0, 1) for x in found],
        dataset.responses,
        dataset.dt_ms,
        range(found[0].shape[0] * found[0].shape[1]),
        neurons=dataset.neurons,
        clips=dataset.clips,
    )
    heard.shape = found[0].shape[0], found[0].shape[1]
    return heard


def _like(model: Model, n_neurons: int, seed: int = 0) -> Model:
    """A new model of the same config for another number of neurons."""
    config = model.config | {"out_neurons": n_neurons}
    if isinstance(config.get("output_activation"), dict) and "n_neurons" in config["output_activation"]:
        config["output_activation"] = config["output_activation"] | {"n_neurons": n_neurons}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return from_config(config).to(next(model.parameters()).dtype)


def _own_parameters(model: Model) -> set[str]:
    """Names in the readout's state of which each neuron has its own row."""
    one, two = (_like(model, n).readout.state_dict() for n in (1, 2))
    return {name for name in one if one[name].shape != two[name].shape}


def _one_neuron(model: Model, n: int, own: set[str], heard: _Channels) -> ReadoutOfChannels:
    """The n-th neuron's readout; only what is its own is left to learn."""
    readout = _like(model, 1).readout
    rows = {name: t[n : n + 1] if name in own else t for name, t in model.readout.state_dict().items()}
    readout.load_state_dict(rows)
    for name, parameter in readout.named_parameters():
        parameter.requires_grad_(name in own)
    alone = ReadoutOfChannels(readout, heard.shape)
    alone.fitted = model.fitted
    return alone
