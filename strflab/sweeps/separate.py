"""Fits that cannot be one batch: one after the other, over processes with joblib, or on a Dask cluster.

What failed is tried again, and what fails for good is reported; neither an exception nor the death of a worker takes
other members with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from strflab.data import NeuralDataset
from strflab.fitting import Diverged, Recipe, Run, fit


@dataclass
class Task:
    """A fit to be done: a model with its first weights, and its own part of the data."""

    index: int
    model: nn.Module
    train: NeuralDataset
    validation: NeuralDataset | None
    recipe: Recipe
    device: str = "cpu"


@dataclass
class Outcome:
    """How a task ended; `final` if trying it again would end the same way."""

    index: int
    run: Run | None
    error: str = ""
    final: bool = False


def perform(task: Task) -> Outcome:
    """Fit, and return what came of it instead of raising."""
    try:
        model = copy.deepcopy(task.model)  # a second attempt starts from the same weights
        run = fit(model, task.train, task.validation, task.recipe, device=task.device, progress=False)
        return Outcome(task.index, run)
    except Diverged as error:
        return Outcome(task.index, None, str(error), final=True)
    except Exception as error:  # whatever a model of the user's raises concerns this member only
        return Outcome(task.index, None, f"{type(error).__name__}: {error}")


def attempts(
    tasks: list[Task], run_all: Callable[[list[Task]], Iterable[Outcome]], n_retries: int
) -> Iterable[tuple[Outcome, int]]:
    """Yield the last outcome of each task and how often it was tried; those that failed are tried `n_retries` more."""
    left = {task.index: task for task in tasks}
    for attempt in range(1, n_retries + 2):
        for outcome in run_all(list(left.values())):
            if outcome.run is not None or outcome.final or attempt > n_retries:
                del left[outcome.index]
                yield outcome, attempt
        if not left:
            return


def in_turn(tasks: list[Task]) -> Iterable[Outcome]:
    """One after the other, in this process."""
    return map(perform, tasks)


def over_processes(n_jobs: int) -> Callable[[list[Task]], Iterable[Outcome]]:
    """At most `n_jobs` at once, each in a process of its own with its share of the cores."""

    def run_all(tasks: list[Task]) -> Iterable[Outcome]:
        waiting = {task.index: task for task in tasks}
        for outcome in _in_workers(tasks, n_jobs):
            del waiting[outcome.index]
            yield outcome
        for task in waiting.values():  # a worker died: alone, it shows whose fault it was
            yield from list(_in_workers([task], 2)) or [Outcome(task.index, None, "the worker process died")]

    return run_all


def _in_workers(tasks: list[Task], n_jobs: int) -> Iterable[Outcome]:
    """Outcomes as they come, fewer than tasks if a worker dies."""
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    threads = max(1, torch.get_num_threads() // n_jobs)
    workers = joblib.Parallel(n_jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    try:
        yield from workers(joblib.delayed(_perform_with)(task, threads) for task in tasks)
    except BrokenProcessPool:
        return


def _perform_with(task: Task, threads: int) -> Outcome:
    torch.set_num_threads(threads)
    return perform(task)


def on_cluster(client: Any) -> Callable[[list[Task]], Iterable[Outcome]]:
    """On the workers of a `dask.distributed.Client`; what they share is sent once."""

    def run_all(tasks: list[Task]) -> Iterable[Outcome]:
        from distributed import as_completed

        sent: dict[int, Any] = {}
        futures = {}
        for task in tasks:
            parts = [_sent(client, part, sent) for part in (task.train, task.validation)]
            future = client.submit(_perform_parts, task.index, task.model, *parts, task.recipe, task.device, pure=False)
            futures[future] = task.index
        for future in as_completed(futures):
            if future.status == "finished":
                yield future.result()
            else:
                yield Outcome(futures[future], None, f"the cluster gave it up: {future.exception()!r}")

    return run_all


def _sent(client: Any, part: NeuralDataset | None, sent: dict[int, Any]) -> Any:
    if part is None:
        return None
    if id(part) not in sent:
        sent[id(part)] = client.scatter(part)
    return sent[id(part)]


def _perform_parts(
    index: int, model: nn.Module, train: NeuralDataset, validation: NeuralDataset | None, recipe: Recipe, device: str
) -> Outcome:
    return perform(Task(index, model, train, validation, recipe, device))
