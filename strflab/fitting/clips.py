"""A data set as a fit uses it: on the device, padded, weighted by repeats, scored from cached signal power."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from strflab import metrics
from strflab.data import NeuralDataset
from strflab.fitting.losses import LOSSES
from strflab.layers.causal import layer_memory

EVALUATED_TOGETHER = 16  # clips


class Clips:
    """Stimuli (B, 1, F, T), PSTHs (B, N, 1, T) and weights of a data set, made once.

    Parameters
    ----------
    model : for which they are meant; its numbers of neurons and bands must be the data's
    dataset : at least one clip and one neuron
    device, dtype : where and as what they are kept
    loss : a name of `strflab.fitting.losses.LOSSES`
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: NeuralDataset,
        device: torch.device,
        loss: str,
        dtype: torch.dtype = torch.float32,
    ):
        if dataset.n_clips == 0 or dataset.n_neurons == 0:
            raise ValueError(f"data set with {dataset.n_clips} clips and {dataset.n_neurons} neurons: must have some")
        for name, has in (("out_neurons", dataset.n_neurons), ("n_frequency_bands", dataset.n_bands)):
            wants = getattr(model, name, has)
            if wants != has:
                raise ValueError(f"{name}={wants} of the model: the data set has {has}")
        self.lengths = torch.tensor(dataset.n_frames)
        longest = int(self.lengths.max())
        psth = _padded(dataset.psth, longest, math.nan).unsqueeze(2)
        counts = _padded(dataset.repeat_counts, longest).unsqueeze(2)
        heard = torch.isfinite(psth) & (counts > 0)
        weight = torch.where(heard, counts, 0)
        # of a neuron's frames, each weighs as its repeats; all neurons weigh as their frames
        weight = weight / weight.sum((0, 2, 3), keepdim=True).clamp(min=1) * heard.sum((0, 2, 3), True)
        self.x = _padded(dataset.stimuli, longest).unsqueeze(1).to(device, dtype)
        self.correlate = metrics.Correlator(torch.where(heard, psth, math.nan).to(device, dtype))
        self.y = torch.where(heard, psth, 0).to(device, dtype)
        if (weight == weight[:1, ..., :1]).all():  # nothing is missing: one number a neuron says it all
            weight = weight[:1, ..., :1]
        self.weight = weight.to(device, dtype)  # (B, N, 1, T), or (1, N, 1, 1) if every frame weighs the same
        self.ccmax = dataset.ccmax
        self.loss_name = loss
        self.elementwise = LOSSES[loss]
        if loss == "nmse":
            variance = self.moments()[1]
            self.weight = self.weight / torch.where(variance > 0, variance, math.inf)[:, None, None]

    def __len__(self) -> int:
        return len(self.x)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (N,) of the responses, frames weighted as in the loss."""
        weight = self.weight.expand_as(self.y)
        total = weight.sum((0, 2, 3), keepdim=True)
        total = torch.where(total > 0, total, 1.0)
        mean = (self.y * weight).sum((0, 2, 3), keepdim=True) / total
        return mean.flatten(), ((self.y - mean) ** 2 * weight).sum((0, 2, 3)) / total.flatten()

    def take(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stimuli, targets and weights of these clips, as long as the longest of them."""
        n_frames = int(self.lengths[clips].max())
        where = clips.to(self.x.device)
        x, y = self.x[where, ..., :n_frames], self.y[where, ..., :n_frames]
        return x, y, self.weight if self.uniform else self.weight[where, ..., :n_frames]

    @property
    def uniform(self) -> bool:
        """Whether each frame of a neuron weighs the same."""
        return self.weight.shape != self.y.shape

    def pieces(
        self, clips: Tensor, n_frames: int, unheard: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A random piece of each clip; its first `unheard` frames weigh nothing unless they begin the clip.

        Parameters
        ----------
        clips : (B,) which
        n_frames : length of a piece
        generator : that draws where a piece begins
        """
        room = (self.lengths[clips] - n_frames).clamp(min=0)
        start = (torch.rand(len(clips), generator=generator) * (room + 1)).long()
        frames = (start[:, None] + torch.arange(n_frames)).clamp(max=self.x.shape[-1] - 1)
        late = (torch.arange(n_frames) >= unheard) | (start[:, None] == 0)
        inside = (start[:, None] + torch.arange(n_frames)) < self.x.shape[-1]
        where, device = clips.to(self.x.device), self.x.device
        index, counts = (t[:, None, None].to(device) for t in (frames, late & inside))
        weight = self.weight.expand_as(self.y)
        x, y, weight = (torch.take_along_dim(t[where], index, -1) for t in (self.x, self.y, weight))
        return x, y, weight * counts

    def loss(self, prediction: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """The mean loss of a frame that was heard.

        Parameters
        ----------
        prediction, y, weight : (B, N, 1, T) or (B, N, T) as a step has them: rates, mean response, repeats that count
        """
        loss, heard = self.losses(prediction, y, weight)
        return loss.sum() / heard.sum().clamp(min=1)

    def losses(self, prediction: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Of each neuron the sum of its weighted losses (N,), and of how many frames.

        Parameters
        ----------
        prediction, y, weight : as for `loss`
        """
        loss, heard = self.elementwise(prediction.to(y.dtype), y), weight > 0
        if weight.shape != y.shape:  # one number a neuron
            return loss.sum((0, 2, 3)) * weight.flatten(), heard.flatten() * (loss.numel() // loss.shape[1])
        return (loss * weight).sum((0, 2, 3)), heard.sum((0, 2, 3))

    @torch.no_grad()
    def predict(self, model: nn.Module) -> Tensor:
        """The model's output (B, N, 1, T) for all clips, in evaluation mode."""
        model.eval()
        return torch.cat([model(x) for x in self.x.split(EVALUATED_TOGETHER)])

    @torch.no_grad()
    def evaluate(self, model: nn.Module, monitor: str) -> tuple[float, np.ndarray]:
        """Loss over all clips and the monitored score (N,) of the model.

        Parameters
        ----------
        model : the one that these clips are for
        monitor : which score, as in `Recipe`
        """
        prediction = self.predict(model)
        per_neuron, heard = self.losses(prediction, self.y, self.weight)
        loss = float(per_neuron.sum() / heard.sum().clamp(min=1))
        if monitor == "loss":
            return loss, (per_neuron / heard.clamp(min=1)).cpu().numpy()
        rate = prediction.exp() if self.loss_name == "poisson_log" else prediction
        return loss, self.scores(rate, monitor)

    def scores(self, rate: Tensor, monitor: str, neurons: Tensor | None = None) -> np.ndarray:
        """Score predicted rates, (N,) or (K,).

        Parameters
        ----------
        rate : (B, N, 1, T), or (B, K, 1, T) of K `neurons`, spikes per bin
        monitor : "corrcoef" or "normalized_corrcoef"
        neurons : (K,) which neurons; None: all
        """
        scores = self.correlate(rate, neurons).cpu().numpy()
        if monitor == "corrcoef":
            return scores
        # cov / sqrt(var(p) SP) = [cov / sqrt(var(p) var(y))] / sqrt(SP / var(y))
        with np.errstate(divide="ignore", invalid="ignore"):
            return scores / (self.ccmax if neurons is None else self.ccmax[neurons.cpu().numpy()])


def unheard_frames(model: nn.Module, n_frames: int) -> int:
    """Frames at the start of a piece for which `model` would need to have heard more, up to a quarter of it."""
    memory = getattr(model, "memory", None) or layer_memory(model)
    return int(min(memory - 1, n_frames // 4))


def mean_score(scores: np.ndarray) -> float:
    """Mean over the neurons that have a score; NaN if none has."""
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else math.nan


def _padded(clips: list[Tensor], n_frames: int, value: float = 0.0) -> Tensor:
    """(B, ..., n_frames) of clips (..., T_k), filled with `value` behind each."""
    return torch.stack([nn.functional.pad(clip.float(), (0, n_frames - clip.shape[-1]), value=value) for clip in clips])
