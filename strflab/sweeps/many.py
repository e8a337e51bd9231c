"""`fit_many`: as many fits as there are members, together where they can be, otherwise over processes or a cluster."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from strflab.data import NeuralDataset
from strflab.fitting import Run
from strflab.progress import progress_bar
from strflab.sweeps.batched import fit_batch, lane, structure, why_not
from strflab.sweeps.members import Member, Sweep
from strflab.sweeps.separate import Outcome, Task, attempts, in_turn, on_cluster, over_processes
from strflab.validation import choice, integer

TOGETHER = {"cpu": 64, "cuda": 512, "mps": 128}  # members at once


def fit_many(
    build: Callable[[], nn.Module] | Sequence[nn.Module],
    dataset: NeuralDataset,
    members: Sequence[Member],
    *,
    batched: str = "auto",
    at_once: int | None = None,
    n_jobs: int = 1,
    n_retries: int = 1,
    client: Any = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Sweep:
    """Fit every member as `strflab.fitting.fit` would fit it by itself, and return them all.

    Members with the same number of neurons and clips whose recipes differ only in learning rate, schedule, weight
    decay, strengths of penalties, epochs, patience and seed become one batched model, each with its own early
    stopping, best weights and score. Those that hear the same clips in the same order (equal training and validation
    clips and `recipe.seed`) share the stimulus, which is where most of the time goes. What cannot be batched, such as a
    recurrent network on a GPU, whose kernel has no members' axis, is fitted one by one.

    Parameters
    ----------
    build : returns a new model with as many output neurons as a member has; it is called once a member, after
        ``torch.manual_seed`` of the member's seed. Or a list of models, one a member, of which copies are fitted
    dataset : the recording that the members' indices point into
    members : what to fit
    batched : "auto"; "never" to fit one by one; "always" to refuse what cannot be batched
    at_once : members in a batch at most, a matter of memory; None: 64 on a CPU, 512 on a GPU
    n_jobs : processes for what is fitted one by one on a CPU; 1: in this process
    n_retries : how often a member that failed is tried again; one whose loss diverged is not, for it would again
    client : a `dask.distributed.Client` on whose cluster to fit what is not batched
    device : as for `strflab.fitting.fit`
    progress : show a bar of the members that are done

    Raises
    ------
    ValueError : no member; an index that the data set does not have; a model with another number of neurons than its
        member; ``batched="always"`` for what cannot be

    Examples
    --------
    >>> from strflab import data, fitting, models
    >>> ds = data.load("simulated", n_neurons=2, n_clips=4, seconds=2.0)
    >>> members = [Member(n, train=[0, 1], validation=[2], recipe=fitting.Recipe(epochs=2)) for n in range(2)]
    >>> sweep = fit_many(lambda: models.Linear(ds.n_bands), ds, members, progress=False)
    >>> sweep.how, len(sweep.models())
    (['batched', 'batched'], 2)
    """
    started = time.perf_counter()
    choice("batched", batched, ("auto", "never", "always"))
    integer("n_jobs", n_jobs)
    integer("n_retries", n_retries, minimum=0)
    members, device = list(members), torch.device(device)
    at_once = TOGETHER.get(device.type, 64) if at_once is None else integer("at_once", at_once)
    _check(members, dataset)
    models = _models(build, members)
    sweep = Sweep(members, [None] * len(members), [""] * len(members), [""] * len(members), [0] * len(members), 0.0)

    groups = {} if batched == "never" else _groups(models, dataset, members, device, batched == "always")
    rest = sorted(set(range(len(members))) - {i for group in groups for i in group})
    with progress_bar(total=len(members), disable=not progress, unit="fit") as bar:
        for group in groups:
            for batch in _batches(group, members, dataset, at_once):
                rest += _fit_batch(batch, models, dataset, sweep, device, bar)
        rest.sort()
        how = "in turn"
        run_all: Callable[[list[Task]], Iterable[Outcome]] = in_turn
        if client is not None:
            how, run_all = "cluster", on_cluster(client)
        elif n_jobs > 1 and device.type == "cpu" and len(rest) > 1:
            how, run_all = "process", over_processes(n_jobs)
        for outcome, tried in attempts(_tasks(rest, models, dataset, members, device), run_all, n_retries):
            _note(sweep, outcome, how, sweep.attempts[outcome.index] + tried)
            bar.update()
    sweep.seconds = time.perf_counter() - started
    return sweep


def _check(members: list[Member], dataset: NeuralDataset) -> None:
    if not members:
        raise ValueError("members=[]: must be at least one")
    for i, member in enumerate(members):
        if not isinstance(member, Member):
            raise ValueError(f"members[{i}]={member!r}: must be a Member")
        for name, indices, size in (
            ("neurons", member.neurons, dataset.n_neurons),
            ("train", member.train, dataset.n_clips),
            ("validation", member.validation or (), dataset.n_clips),
        ):
            if any(index >= size for index in indices):
                raise ValueError(f"members[{i}].{name}={indices!r}: the data set has {size}")


def _models(build: Any, members: list[Member]) -> list[nn.Module]:
    """A model of its own for each member, with its first weights."""
    if callable(build):
        models = []
        for member in members:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(member.weights_seed)
                models.append(build())
        if len(set(map(id, models))) < len(models):  # `build` returned what it had returned before
            models = [copy.deepcopy(model) for model in models]
    else:
        models = [copy.deepcopy(model) for model in build]
        if len(models) != len(members):
            raise ValueError(f"build: {len(models)} models for {len(members)} members")
    for i, (model, member) in enumerate(zip(models, members)):
        if not isinstance(model, nn.Module):
            raise ValueError(f"build={build!r}: must return a torch module")
        has = getattr(model, "out_neurons", len(member.neurons))
        if has != len(member.neurons):
            raise ValueError(f"members[{i}].neurons={member.neurons!r}: the model has out_neurons={has}")
    return models


def _groups(
    models: list[nn.Module], dataset: NeuralDataset, members: list[Member], device: torch.device, must: bool
) -> list[list[int]]:
    """Members that could be one batch, by index; those that cannot be in any are left out."""
    found: dict[tuple, list[int]] = {}
    for i, (model, member) in enumerate(zip(models, members, strict=True)):
        found.setdefault(structure(model, member), []).append(i)
    groups = []
    for group in found.values():
        first = members[group[0]]
        reason = why_not(models[group[0]], first.recipe, dataset.stimuli[first.train[0]], device)
        if reason and must:
            raise ValueError(f"batched='always': members[{group[0]}] cannot be batched: {reason}")
        if not reason and (len(group) > 1 or must):
            groups.append(group)
    return groups


def _batches(group: list[int], members: list[Member], dataset: NeuralDataset, at_once: int) -> Iterable[list[int]]:
    """The group in batches of at most `at_once`: parts of lanes, or several lanes of one size."""
    lanes: dict[tuple, list[int]] = {}
    for i in group:
        lanes.setdefault(lane(members[i]), []).append(i)
    by_size: dict[int, list[list[int]]] = {}
    for same in lanes.values():
        for start in range(0, len(same), at_once):
            part = same[start : start + at_once]
            by_size.setdefault(len(part), []).append(part)
    # lanes stand side by side only if none of their clips has to be padded to another's length
    even = len(set(dataset.n_frames)) == 1
    for size, parts in by_size.items():
        n_lanes = max(1, at_once // size) if even else 1
        for start in range(0, len(parts), n_lanes):
            yield [i for part in parts[start : start + n_lanes] for i in part]


def _fit_batch(
    batch: list[int], models: list[nn.Module], dataset: NeuralDataset, sweep: Sweep, device: torch.device, bar: Any
) -> list[int]:
    """Fit a batch into `sweep`; return the members that are still to be fitted, one by one: all, if it failed."""
    before = bar.n
    mine = [models[i] for i in batch]
    starts = [{name: t.detach().clone() for name, t in model.state_dict().items()} for model in mine]
    try:
        results = fit_batch(mine, dataset, [sweep.members[i] for i in batch], device, bar.update)
    except RuntimeError:  # out of memory, or an operation that the trial did not meet
        bar.update(before - bar.n)
        for i, start in zip(batch, starts):
            models[i].load_state_dict(start)
            sweep.attempts[i] = 1
        return batch
    for i, result in zip(batch, results, strict=True):
        outcome = Outcome(i, result) if isinstance(result, Run) else Outcome(i, None, str(result))
        _note(sweep, outcome, "batched", 1)
    return []


def _note(sweep: Sweep, outcome: Outcome, how: str, tried: int) -> None:
    i = outcome.index
    sweep.runs[i], sweep.errors[i], sweep.how[i], sweep.attempts[i] = outcome.run, outcome.error, how, tried


def _tasks(
    rest: list[int], models: list[nn.Module], dataset: NeuralDataset, members: list[Member], device: torch.device
) -> list[Task]:
    """The fits that are left, each with its part of the data; equal parts are one object."""
    parts: dict[tuple, NeuralDataset] = {}

    def part(neurons: tuple[int, ...], clips: Sequence[int]) -> NeuralDataset:
        key = neurons, tuple(clips)
        if key not in parts:
            parts[key] = dataset.select(neurons=list(neurons), clips=list(clips))
        return parts[key]

    return [
        Task(
            i,
            models[i],
            part(member.neurons, member.train),
            None if member.validation is None else part(member.neurons, member.validation),
            member.recipe,
            str(device),
        )
        for i in rest
        for member in [members[i]]
    ]
