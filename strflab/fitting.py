"""One training loop: a model, training clips, validation clips, a recipe; the best weights come back.

The target is the mean over repeats (the PSTH), each frame weighted by the number of repeats behind it, which has
the same minimum as a sum over single trials and costs R times less. After every epoch the validation clips are
scored, and the weights that scored best are the ones that the fitted model holds.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from strflab import metrics
from strflab.data import NeuralDataset
from strflab.progress import progress_bar
from strflab.validation import choice, integer, number

EVALUATED_TOGETHER = 16  # clips
LOWEST_RATE = 1e-4  # spikes per bin, at which the Poisson loss stops being logarithmic


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted: printed, compared and stored as a whole.

    Parameters
    ----------
    loss : "mse", "nmse" (over each neuron's variance, so that all weigh alike) or "poisson" (negative log-likelihood)
    learning_rate : of Adam (Kingma & Ba 2015, doi 10.48550/arXiv.1412.6980)
    weight_decay : decoupled, as in AdamW (Loshchilov & Hutter 2019, doi 10.48550/arXiv.1711.05101)
    epochs : at most so many passes over the training clips
    patience : stop after so many epochs without a better validation score
    batch_size : clips a step
    monitor : what decides which weights are best: "normalized_corrcoef" or "corrcoef" (mean over neurons, higher is
        better), or "loss" (lower is better)
    gradient_clip : largest norm of the gradient; None: no limit
    seed : of the order of clips and of whatever the model draws at random

    Raises
    ------
    ValueError : a setting is out of range; the message names it

    Examples
    --------
    >>> Recipe(epochs=50).epochs
    50
    """

    loss: str = "mse"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 200
    patience: int = 30
    batch_size: int = 4
    monitor: str = "normalized_corrcoef"
    gradient_clip: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choice("loss", self.loss, tuple(LOSSES))
        choice("monitor", self.monitor, ("normalized_corrcoef", "corrcoef", "loss"))
        number("learning_rate", self.learning_rate, above=0)
        number("weight_decay", self.weight_decay, at_least=0)
        for name in ("epochs", "patience", "batch_size"):
            integer(name, getattr(self, name))
        if self.gradient_clip is not None:
            number("gradient_clip", self.gradient_clip, above=0)
        integer("seed", self.seed, minimum=0, maximum=2**63 - 1)


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


def fit(
    model: nn.Module,
    train: NeuralDataset,
    validation: NeuralDataset | None = None,
    recipe: Recipe | None = None,
    *,
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
    device : where to fit; the model stays there
    progress : show a bar with the monitored score
    callback : called with the history's record after each epoch, to log it elsewhere

    Raises
    ------
    ValueError : no clips, or numbers of neurons or bands that differ between model and data
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
    started = time.perf_counter()
    device = torch.device(device)
    model.to(device)
    learning = _Clips(model, train, device, recipe.loss)
    held_out = learning if validation is None else _Clips(model, validation, device, recipe.loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    order = torch.Generator().manual_seed(recipe.seed)
    best = _Best(model, higher_is_better=recipe.monitor != "loss")
    history: list[dict[str, float]] = []

    with _seeded(recipe.seed), progress_bar(total=recipe.epochs, disable=not progress, unit="epoch") as bar:
        for epoch in range(1, recipe.epochs + 1):
            train_loss = _train_epoch(model, learning, recipe, optimizer, order)
            validation_loss, scores = held_out.evaluate(model, recipe.monitor)
            record = {
                "epoch": epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "score": _mean(scores),
                "seconds": time.perf_counter() - started,
            }
            history.append(record)
            if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
                best.restore()
                raise Diverged(
                    f"the loss is {train_loss} in training and {validation_loss} in validation at epoch {epoch}: lower "
                    f"learning_rate={recipe.learning_rate:g} or set gradient_clip={recipe.gradient_clip}"
                )
            best.offer(epoch, record["score"], scores)
            bar.set_postfix_str(f"{recipe.monitor} {record['score']:.4f}, best {best.score:.4f}", refresh=False)
            bar.update()
            if callback is not None:
                callback(record)
            if epoch - best.epoch >= recipe.patience:
                break
    if best.epoch == 0:
        raise Diverged(f"{recipe.monitor} was never a number: no neuron of the validation clips has signal power > 0")
    best.restore()
    model.eval()
    return Run(model, history, best.epoch, best.scores, recipe, str(device), time.perf_counter() - started)


def _train_epoch(
    model: nn.Module, clips: _Clips, recipe: Recipe, optimizer: torch.optim.Optimizer, order: torch.Generator
) -> float:
    """One pass over the clips in random order; returns the mean loss of a step."""
    model.train()
    losses = []
    for batch in torch.randperm(len(clips), generator=order).split(recipe.batch_size):
        x, y, weight = clips.take(batch)
        optimizer.zero_grad(set_to_none=True)
        loss = clips.loss(model(x), y, weight)
        loss.backward()
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


class _Clips:
    """A data set on the device: stimuli (B, 1, F, T), PSTHs (B, N, 1, T) and weights, made once."""

    def __init__(self, model: nn.Module, dataset: NeuralDataset, device: torch.device, loss: str):
        if dataset.n_clips == 0 or dataset.n_neurons == 0:
            raise ValueError(f"data set with {dataset.n_clips} clips and {dataset.n_neurons} neurons: must have some")
        for name, has in (("out_neurons", dataset.n_neurons), ("n_frequency_bands", dataset.n_bands)):
            wants = getattr(model, name, has)
            if wants != has:
                raise ValueError(f"{name}={wants} of the model: the data set has {has}")
        self.lengths = torch.tensor(dataset.n_frames)
        longest = int(self.lengths.max())
        self.x = _padded(dataset.stimuli, longest).unsqueeze(1).to(device)
        psth = _padded(dataset.psth, longest, math.nan).unsqueeze(2).to(device)
        counts = _padded(dataset.repeat_counts, longest).unsqueeze(2).to(device)
        heard = torch.isfinite(psth) & (counts > 0)
        self.psth = torch.where(heard, psth, math.nan)
        self.y = torch.where(heard, psth, 0)
        self.weight = torch.where(heard, counts, 0)
        self.weight = self.weight / self.weight.sum((0, 2, 3), keepdim=True).clamp(min=1) * heard.sum((0, 2, 3), True)
        self.ccmax = torch.as_tensor(dataset.ccmax, device=device)
        self._elementwise = LOSSES[loss]
        if loss == "nmse":
            variance = _weighted_variance(self.y, self.weight)
            self.weight = self.weight / torch.where(variance > 0, variance, math.inf)[:, None, None]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stimuli, targets and weights of these clips, as long as the longest of them."""
        n_frames = int(self.lengths[clips].max())
        where = clips.to(self.x.device)
        return self.x[where, ..., :n_frames], self.y[where, ..., :n_frames], self.weight[where, ..., :n_frames]

    def loss(self, prediction: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """The mean loss of a frame that was heard."""
        return (self._elementwise(prediction, y) * weight).sum() / (weight > 0).sum().clamp(min=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, monitor: str) -> tuple[float, np.ndarray]:
        """Loss over all clips and the monitored score (N,) of the model."""
        model.eval()
        prediction = torch.cat([model(x) for x in self.x.split(EVALUATED_TOGETHER)])
        loss = float(self.loss(prediction, self.y, self.weight))
        if monitor == "loss":
            per_neuron = (self._elementwise(prediction, self.y) * self.weight).sum((0, 2, 3))
            return loss, (per_neuron / (self.weight > 0).sum((0, 2, 3)).clamp(min=1)).cpu().numpy()
        scores = metrics.corrcoef(prediction, self.psth)
        if monitor == "normalized_corrcoef":
            scores = scores / self.ccmax  # cov / sqrt(var(p) SP) = [cov / sqrt(var(p) var(y))] / sqrt(SP / var(y))
        return loss, scores.cpu().numpy()


@dataclass
class _Best:
    """The weights with the best score so far."""

    model: nn.Module
    higher_is_better: bool
    epoch: int = 0
    score: float = math.nan
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self._weights = copy.deepcopy(self.model.state_dict())

    def offer(self, epoch: int, score: float, scores: np.ndarray) -> None:
        """Keep the model's weights if `score` beats the best; a NaN never does."""
        if math.isnan(score):
            return
        better = score > self.score if self.higher_is_better else score < self.score
        if better or math.isnan(self.score):
            self.epoch, self.score, self.scores = epoch, score, scores
            for name, weight in self.model.state_dict().items():
                self._weights[name].copy_(weight)

    def restore(self) -> None:
        self.model.load_state_dict(self._weights)


# ---- losses: elementwise, rates and targets in spikes per bin


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """``(p - y)^2``, elementwise."""
    return (prediction - target) ** 2


def poisson_loss(prediction: Tensor, target: Tensor, lowest: float = LOWEST_RATE) -> Tensor:
    """``p - y log p``, elementwise, for predicted rates p and mean counts y.

    Below `lowest` it goes on as the parabola of the same value and slope, so that a rate of zero or less is finite,
    has a gradient that leads back, and is bounded from below: a logarithm that is only clamped would reward
    ever more negative rates where there are no spikes.
    """
    safe = prediction.clamp(min=lowest)
    below = prediction - safe  # <= 0
    value = safe - target * torch.log(safe)
    slope, curvature = 1 - target / lowest, (1 + target / lowest) / lowest
    return value + slope * below + curvature * below**2 / 2


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "nmse": squared_error,  # the weights carry the variances
    "poisson": poisson_loss,
}


def _weighted_variance(y: Tensor, weight: Tensor) -> Tensor:
    """(N,) variance of (B, N, 1, T) under the weights."""
    total = weight.sum((0, 2, 3), keepdim=True).clamp(min=1)
    mean = (y * weight).sum((0, 2, 3), keepdim=True) / total
    return ((y - mean) ** 2 * weight).sum((0, 2, 3)) / total.flatten()


def _padded(clips: list[Tensor], n_frames: int, value: float = 0.0) -> Tensor:
    """(B, ..., n_frames) of clips (..., T_k), filled with `value` behind each."""
    return torch.stack([nn.functional.pad(clip.float(), (0, n_frames - clip.shape[-1]), value=value) for clip in clips])


def _mean(scores: np.ndarray) -> float:
    """Mean over the neurons that have a score; NaN if none has."""
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else math.nan


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; outside, its random state is as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
