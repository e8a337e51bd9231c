"""The training loop: a model, training clips, validation clips, a recipe; the best weights come back.

The target is the mean over repeats (the PSTH), each frame weighted by the number of repeats behind it, which has
the same minimum as a sum over single trials and costs R times less. Steps of a linear model under squared error take
their loss from second moments (`quadratic`). After every epoch the validation clips are scored, and the weights that
scored best are the ones that the fitted model holds.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from strflab.data import NeuralDataset
from strflab.fitting.checkpoint import Checkpoint, identity
from strflab.fitting.clips import Clips, mean_score, unheard_frames
from strflab.fitting.quadratic import QuadraticLoss
from strflab.fitting.recipe import MOMENTUM, Recipe
from strflab.progress import progress_bar

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


@dataclass
class Run:
    """What a fit leaves behind.

    model : with the best weights, in evaluation mode
    history : a record an epoch: epoch, train_loss, validation_loss, score, seconds
    best_epoch : the one whose weights the model holds
    scores : (N,) validation scores of those weights, as `recipe.monitor` says; of the training clips if no others
        were given
    recipe, device, seconds : how, where and how long
    """

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int
    scores: np.ndarray
    recipe: Recipe
    device: str
    seconds: float


class Diverged(RuntimeError):
    """The loss stopped being a number; the model was given its best weights so far."""

    @staticmethod
    def has(record: dict[str, float]) -> bool:
        """Whether the losses of an epoch's record are no longer numbers."""
        return not (math.isfinite(record["train_loss"]) and math.isfinite(record["validation_loss"]))

    @classmethod
    def at(cls, record: dict[str, float], recipe: Recipe) -> Diverged:
        """The error for an epoch whose losses are no longer numbers.

        Parameters
        ----------
        record : of the epoch, as in the history
        recipe : of the fit
        """
        return cls(
            f"the loss is {record['train_loss']} in training and {record['validation_loss']} in validation at "
            f"epoch {record['epoch']}: lower learning_rate={recipe.learning_rate:g} or set "
            f"gradient_clip={recipe.gradient_clip}"
        )

    @classmethod
    def without_score(cls, recipe: Recipe) -> Diverged:
        """The error for a fit that never had a score to choose its weights by.

        Parameters
        ----------
        recipe : of the fit
        """
        return cls(f"{recipe.monitor} was never a number: no neuron of the validation clips has signal power > 0")


def fit(
    model: nn.Module,
    train: NeuralDataset,
    validation: NeuralDataset | None = None,
    recipe: Recipe | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
    callback: Callable[[dict[str, float]], None] | None = None,
) -> Run:
    """Fit `model` to recorded responses and return it with the weights that did best.

    Parameters
    ----------
    model : maps (B, 1, F, T) to (B, N, 1, T); fitted in place
    train : clips to learn from
    validation : clips that say when to stop and which weights to keep; None: the training clips
    recipe : None: the defaults of `Recipe`
    checkpoint : folder to which the state of the fit is saved as it goes. A fit that was interrupted and is started
        again with the same folder ends with the same weights as one that never was, on a CPU to the last bit
    device : where to fit: "cpu", "cuda", "mps"; the model stays there
    progress : show a bar with the monitored score
    callback : called with the history's record after each epoch, to log it elsewhere

    Raises
    ------
    ValueError : no clips; numbers of neurons or bands that differ between model and data; a checkpoint that is damaged
        or belongs to another fit
    Diverged : the loss became NaN or infinite

    Examples
    --------
    >>> from strflab import data, models
    >>> ds = data.load("simulated", n_neurons=2, n_clips=4, seconds=2.0)
    >>> run = fit(models.Linear(ds.n_bands, out_neurons=2), ds.select(clips=[0, 1, 2]), ds.select(clips=[3]),
    ...           Recipe(epochs=2), progress=False)
    >>> len(run.history)
    2
    """
    recipe = recipe or Recipe()
    device, dtype = torch.device(device), DTYPES[recipe.precision]
    model.to(device, dtype)
    learning = Clips(model, train, device, recipe.loss, dtype)
    held_out = learning if validation is None else Clips(model, validation, device, recipe.loss, dtype)
    saved = Checkpoint(checkpoint, identity(model, recipe, train, validation)) if checkpoint is not None else None
    with _seeded(recipe.seed, device), progress_bar(total=recipe.epochs, disable=not progress, unit="epoch") as bar:
        if recipe.initialize:
            initialize_output(model, learning)
        state = _State(model, recipe, QuadraticLoss.of(model, learning, recipe))
        if saved is not None:
            saved.load(state)
        bar.update(state.epoch)
        while not state.finished:
            record = state.advance(learning, held_out)
            if Diverged.has(record):
                state.restore_best()
                raise Diverged.at(record, recipe)
            if saved is not None:
                saved.save(state)
            best = f"{recipe.monitor} {record['score']:.4f}, best {state.best_score:.4f}"
            bar.set_postfix_str(best, refresh=False)
            bar.update()
            if callback is not None:
                callback(record)
    if state.best_epoch == 0:
        raise Diverged.without_score(recipe)
    state.restore_best()
    model.fitted = True  # type: ignore[assignment]
    model.eval()
    return Run(model, state.history, state.best_epoch, state.best_scores, recipe, str(device), state.seconds)


def initialize_output(model: nn.Module, clips: Clips) -> None:
    """Start the readout of a model that was never fitted at the mean and spread of each neuron's response.

    The gradient through an output nonlinearity is small far from the rates that neurons have, and their spread
    differs by a factor of ten and more: from there a fit needs many steps only to find the scale.

    Parameters
    ----------
    model : whose readout is started
    clips : that it will learn from
    """
    readout = getattr(model, "readout", None)
    if getattr(model, "fitted", False) or not hasattr(readout, "initialize"):
        return
    mean, variance = clips.moments()
    sd = torch.where(variance > 0, variance, 1.0).sqrt()
    if clips.loss_name == "poisson_log":
        mean, sd = torch.log(mean.clamp(min=1e-4)), torch.ones_like(sd)
    readout.initialize(mean, sd)  # type: ignore[union-attr]


class _State:
    """All that a fit is at the end of an epoch: what a checkpoint holds."""

    def __init__(self, model: nn.Module, recipe: Recipe, quadratic: QuadraticLoss | None = None):
        self.model, self.recipe, self.quadratic = model, recipe, quadratic
        self.compiled: Any = torch.compile(model) if recipe.compile else model
        options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        if recipe.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), **options)
        else:
            self.optimizer = torch.optim.SGD(model.parameters(), momentum=MOMENTUM, **options)
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.epoch, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self.best_epoch, self.best_score, self.best_scores = 0, math.nan, np.empty(0)
        self.best = _copied(model)
        self.average = _copied(model) if recipe.ema is not None else {}

    @property
    def finished(self) -> bool:
        """Whether the epochs or the patience are used up."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.recipe.epochs or (self.epoch > 0 and waited >= self.recipe.patience)

    def advance(self, learning: Clips, held_out: Clips) -> dict[str, float]:
        """Train for an epoch, score, and return the history's new record."""
        started = time.perf_counter()
        train_loss = self._train(learning)
        with self._averaged():
            validation_loss, scores = held_out.evaluate(self.compiled, self.recipe.monitor)
            self.epoch += 1
            self._offer(scores)
        self.seconds += time.perf_counter() - started
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "score": mean_score(scores),
                "seconds": self.seconds,
            }
        )
        return self.history[-1]

    def restore_best(self) -> None:
        """Give the model the weights that scored best."""
        self.model.load_state_dict(self.best)

    def _train(self, clips: Clips) -> float:
        """One pass over the clips in random order; returns the mean loss of a step, penalties left out."""
        recipe, losses = self.recipe, []
        self.model.train()
        batches = torch.randperm(len(clips), generator=self.order).split(recipe.batch_size)
        for step, batch in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(self.epoch + step / len(batches))
            losses.append(self._step(clips, batch))
        return float(torch.stack(losses).mean())

    def _step(self, clips: Clips, batch: Tensor) -> Tensor:
        recipe = self.recipe
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(clips, batch) if self.quadratic is None else self.quadratic(self.model, batch)
        total = loss + sum(penalty.of(self.model) for penalty in recipe.penalties)
        total.backward()
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_clip)
        self.optimizer.step()
        if recipe.ema is not None:
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - recipe.ema)
                else:
                    self.average[name].copy_(tensor)
        return loss.detach()

    def _loss(self, clips: Clips, batch: Tensor) -> Tensor:
        n_frames = self.recipe.clip_frames
        if n_frames is None:
            x, y, weight = clips.take(batch)
        else:
            x, y, weight = clips.pieces(batch, n_frames, unheard_frames(self.model, n_frames), self.order)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            prediction = self.compiled(x)
        return clips.loss(prediction, y, weight)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model holds its averaged weights, if the recipe asks for them."""
        if not self.average:
            yield
            return
        last = _copied(self.model)
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(last)

    def _offer(self, scores: np.ndarray) -> None:
        """Keep the model's weights if they beat the best; a NaN never does."""
        score = mean_score(scores)
        if self.recipe.is_better(score, self.best_score):
            self.best_epoch, self.best_score, self.best_scores = self.epoch, score, scores
            for name, tensor in self.model.state_dict().items():
                self.best[name].copy_(tensor)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch draws from `seed`; outside, its random state is as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
