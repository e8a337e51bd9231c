"""Many fits of one architecture as one model whose parameters have a leading axis, the members.

`torch.func.vmap` turns the model into one over all members; what they hear in common is convolved with all their
filters in one product. Members that hear the same clips in the same order form a lane and share the stimulus; lanes
of equal size stand side by side. The optimiser, the penalties, the best weights and the stopping of
`strflab.fitting.fit` are here once more, each with the members' axis: a test compares the two.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from strflab.data import NeuralDataset
from strflab.fitting import Clips, Diverged, Recipe, Run, initialize_output
from strflab.fitting.clips import mean_score, unheard_frames
from strflab.fitting.loop import DTYPES
from strflab.fitting.recipe import MOMENTUM, PENALTIES
from strflab.sweeps.members import Member

PROBE_FRAMES = 64  # of the trial that tells whether a model can be batched
SHARED_VALUES = 2**24  # largest number of stimulus values that are scored at once, over all members
BETAS, EPSILON = (0.9, 0.999), 1e-8  # those of torch.optim.AdamW


def structure(model: nn.Module, member: Member) -> tuple:
    """What members must have in common to be one batch."""
    r = member.recipe
    return (
        (
            r.loss,
            r.optimizer,
            r.batch_size,
            r.clip_frames,
            r.monitor,
            r.gradient_clip,
            r.ema,
            r.precision,
            r.compile,
            r.initialize,
        ),
        tuple((p.kind, p.parameters) for p in r.penalties),
        (len(member.neurons), len(member.train), len(member.validation or ())),
        (type(model), tuple((name, tuple(t.shape), t.dtype) for name, t in model.state_dict().items())),
        tuple(name for name, p in model.named_parameters() if p.requires_grad),
    )


def lane(member: Member) -> tuple:
    """What members must have in common to share the stimulus."""
    return member.train, member.validation or (), member.recipe.seed


def why_not(model: nn.Module, recipe: Recipe, stimulus: Tensor, device: torch.device | str = "cpu") -> str:
    """Return why `model` cannot be batched, "" if it can: two copies are tried on the start of a stimulus (F, T)."""
    if recipe.compile:
        return "compile=True"
    if len(list(model.named_parameters())) != len(list(model.named_parameters(remove_duplicate=False))):
        return "parameters that share memory"
    two = [copy.deepcopy(model).to(device, DTYPES[recipe.precision]).train() for _ in range(2)]
    with torch.no_grad():
        for p in two[1].parameters():
            p.mul_(0.9)
    x = stimulus[None, None, :, :PROBE_FRAMES].to(device, DTYPES[recipe.precision])
    try:
        with warnings.catch_warnings(record=True) as caught, torch.random.fork_rng(devices=[]):
            warnings.simplefilter("always")
            stacked = {k: torch.stack([m.state_dict()[k] for m in two]) for k in two[0].state_dict()}
            base = copy.deepcopy(model).to(device, DTYPES[recipe.precision]).train()
            together = vmap(lambda state: functional_call(base, state, (x,)))(stacked)
            alone = torch.stack([m(x) for m in two])
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    slow = [str(w.message) for w in caught if "performance drop" in str(w.message)]
    if slow:
        return slow[0].splitlines()[0]
    return "" if torch.allclose(together, alone, rtol=1e-3, atol=1e-5) else "its batched output differs"


def fit_batch(
    models: list[nn.Module],
    dataset: NeuralDataset,
    members: list[Member],
    device: torch.device,
    finished: Callable[[int], Any] = lambda n: None,
) -> list[Run | Diverged]:
    """Fit models of one structure together, those of a lane next to each other and lanes of one size.

    Parameters
    ----------
    models : one a member, made from its seed; fitted in place
    dataset, members, device : as for `strflab.sweeps.fit_many`
    finished : told how many members have just stopped

    Returns
    -------
    list : a Run each, or how it diverged
    """
    batch = _Batch(models, dataset, members, device)
    while len(batch.slots):
        finished(batch.advance())
        batch.compact()
    return batch.results()


class _Lane:
    """The clips of members that hear the same ones in the same order."""

    def __init__(self, dataset: NeuralDataset, members: list[Member], device: torch.device):
        first = members[0]
        loss, dtype = first.recipe.loss, DTYPES[first.recipe.precision]
        neurons = sorted({n for member in members for n in member.neurons})
        place = {n: i for i, n in enumerate(neurons)}
        here = dataset.select(neurons=neurons)
        self.learning = Clips(nn.Module(), here.select(clips=list(first.train)), device, loss, dtype)
        self.held_out = self.learning
        if first.validation is not None:
            self.held_out = Clips(nn.Module(), here.select(clips=list(first.validation)), device, loss, dtype)
        self.columns = torch.tensor([[place[n] for n in member.neurons] for member in members], device=device)  # (k, n)
        self.order = torch.Generator().manual_seed(first.recipe.seed)

    def initialize(self, models: list[nn.Module]) -> None:
        """Start the members' outputs at their neurons' rates, as `fit` does."""
        mean, variance = self.learning.moments()
        for model, columns in zip(models, self.columns, strict=True):
            own = SimpleNamespace(moments=lambda c=columns: (mean[c], variance[c]), loss_name=self.learning.loss_name)
            initialize_output(model, cast(Clips, own))

    def of_members(self, t: Tensor) -> Tensor:
        """(B, N, 1, T) of the lane's neurons as (k, B, n, 1, T) of its members."""
        return t[:, self.columns].transpose(0, 1)


class _Batch:
    """The state of all fits. A slot is a place on the members' axis: a finished member keeps it until `compact`."""

    def __init__(self, models: list[nn.Module], dataset: NeuralDataset, members: list[Member], device: torch.device):
        self.members, self.models, self.device = members, models, device
        self.recipe = members[0].recipe  # for what all have in common
        self.base = copy.deepcopy(models[0]).to(device, DTYPES[self.recipe.precision])
        starts = [[i for i, _ in same] for _, same in groupby(enumerate(members), key=lambda im: lane(im[1]))]
        self.lanes = [_Lane(dataset, [members[i] for i in same], device) for same in starts]
        if len({len(same) for same in starts}) != 1:
            raise ValueError("lanes of different sizes")
        self.slots = list(range(len(members)))  # the member in each slot, lane after lane
        self.live = np.ones(len(members), bool)

        moving = _moving_buffers(self.base, self.lanes[0].learning.x[:1])
        trained = [name for name, p in self.base.named_parameters() if p.requires_grad]
        for model in models:
            model.to(device, DTYPES[self.recipe.precision])
        for here, same in zip(self.lanes, starts):
            if self.recipe.initialize:
                here.initialize([models[i] for i in same])
        each = [model.state_dict() for model in models]
        self.state: dict[str, Tensor] = {}  # (S, ...)
        self.shared: dict[str, Tensor] = {}  # what no member changes: work on it is done once
        for name in each[0]:
            still = name not in trained and name not in moving
            if still and all(torch.equal(state[name], each[0][name]) for state in each[1:]):
                self.shared[name] = each[0][name]
            else:
                self.state[name] = torch.stack([state[name] for state in each]).detach().clone()
        self.trained = [name for name in trained if name in self.state]
        for name in self.trained:
            self.state[name].requires_grad_()
        self.moments: dict[str, tuple[Tensor, ...]] = {}
        self.average = _copied(self.state) if self.recipe.ema is not None else {}
        self.best = _copied(self.state)  # (members, ...)
        self.penalized = [[name for name in p.names(self.base) if name in self.trained] for p in self.recipe.penalties]

        self.epoch, self.steps, self.seconds = 0, 0, 0.0
        self.history: list[list[dict[str, float]]] = [[] for _ in members]
        self.best_epoch = [0] * len(members)
        self.best_score = [math.nan] * len(members)
        self.best_scores = [np.empty(0)] * len(members)
        self.failure: list[Diverged | None] = [None] * len(members)

    # ---- an epoch

    def advance(self) -> int:
        """Train for an epoch, score, and return how many members have finished with it."""
        started = time.perf_counter()
        train_loss = self._train()
        state = self.average or self.state
        validation_loss, scores = self._evaluate(state)
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        better = []
        before = int(self.live.sum())
        for slot in np.flatnonzero(self.live):
            i = self.slots[slot]
            score = mean_score(scores[slot])
            record = {
                "epoch": self.epoch,
                "train_loss": float(train_loss[slot]),
                "validation_loss": float(validation_loss[slot]),
                "score": score,
                "seconds": self.seconds,
            }
            self.history[i].append(record)
            if self.recipe.is_better(score, self.best_score[i]):
                self.best_epoch[i], self.best_score[i], self.best_scores[i] = self.epoch, score, scores[slot]
                better.append(slot)
            self._judge(i, record)
            self.live[slot] = not self._is_finished(i)
        if better:
            slots, who = (torch.tensor(v, device=self.device) for v in (better, [self.slots[s] for s in better]))
            for name, tensor in state.items():
                self.best[name][who] = tensor.detach()[slots]
        return before - int(self.live.sum())

    def _judge(self, i: int, record: dict[str, float]) -> None:
        if Diverged.has(record):
            self.failure[i] = Diverged.at(record, self.members[i].recipe)

    def _is_finished(self, i: int) -> bool:
        recipe = self.members[i].recipe
        waited = self.epoch - self.best_epoch[i]
        return bool(self.failure[i]) or self.epoch >= recipe.epochs or waited >= recipe.patience

    def compact(self) -> None:
        """Once half of the slots stand idle, give them up; a lane keeps as many as the fullest has live members."""
        if self.live.sum() * 2 > len(self.slots):
            return
        size = len(self.slots) // len(self.lanes)
        live = self.live.reshape(-1, size)
        kept_lanes, new_size = np.flatnonzero(live.any(1)), int(live.sum(1).max(initial=0))
        order = np.argsort(~live, axis=1, kind="stable")[kept_lanes, :new_size]  # the live ones first
        kept = (order + kept_lanes[:, None] * size).ravel()
        self.slots, self.live = [self.slots[s] for s in kept], self.live[kept]
        self.lanes = [self.lanes[j] for j in kept_lanes]
        for here, columns in zip(self.lanes, torch.from_numpy(order).to(self.device)):
            here.columns = here.columns[columns]
        where = torch.from_numpy(kept).to(self.device)
        for name, tensor in self.state.items():
            self.state[name] = tensor.detach()[where].requires_grad_(name in self.trained)
        self.average = {name: tensor[where] for name, tensor in self.average.items()}
        self.moments = {name: tuple(t[where] for t in tensors) for name, tensors in self.moments.items()}

    def results(self) -> list[Run | Diverged]:
        """The models with their best weights, or why there are none."""
        found: list[Run | Diverged] = []
        for i, (model, member) in enumerate(zip(self.models, self.members, strict=True)):
            model.load_state_dict({k: t[i] for k, t in self.best.items()} | self.shared)
            model.fitted = True  # type: ignore[assignment]
            model.eval()
            if self.best_epoch[i] == 0 and not self.failure[i]:
                self.failure[i] = Diverged.without_score(self.recipe)
            failure = self.failure[i]
            if failure is not None:
                found.append(failure)
                continue
            history, scores = self.history[i], self.best_scores[i]
            seconds = history[-1]["seconds"]
            found.append(Run(model, history, self.best_epoch[i], scores, member.recipe, str(self.device), seconds))
        return found

    # ---- training

    def _train(self) -> Tensor:
        """One pass over the clips, each lane in its own order; returns the mean loss of a step (S,)."""
        self.base.train()
        orders = [torch.randperm(len(here.learning), generator=here.order) for here in self.lanes]
        batches = list(zip(*(order.split(self.recipe.batch_size) for order in orders), strict=True))
        losses = []
        for step, batch in enumerate(batches):
            epoch = self.epoch + step / len(batches)
            x, y, weight = zip(*(self._take(here, clips) for here, clips in zip(self.lanes, batch)))
            losses.append(self._step(torch.stack(x), torch.cat(y), _joined(weight, y), epoch))
        return torch.stack(losses).mean(0).cpu()

    def _take(self, here: _Lane, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_frames = self.recipe.clip_frames
        if n_frames is None:
            x, y, weight = here.learning.take(clips)
        else:
            x, y, weight = here.learning.pieces(clips, n_frames, unheard_frames(self.base, n_frames), here.order)
        return x, here.of_members(y), here.of_members(weight)

    def _step(self, x: Tensor, y: Tensor, weight: Tensor, epoch: float) -> Tensor:
        """One step on stimuli (lanes, B, 1, F, T), targets and weights (S, B, n, 1, T); returns the losses (S,)."""
        recipe = self.recipe
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            prediction = self._call(self.state, x)
        loss = self._losses(prediction, y, weight)
        total = loss.sum() + self._penalties()
        parameters = [self.state[name] for name in self.trained]
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        with torch.no_grad():
            self._descend(dict(zip(self.trained, gradients)), epoch)
            for name, average in self.average.items():
                if average.is_floating_point():
                    average.lerp_(self.state[name], 1 - recipe.ema)  # type: ignore[operator]
                else:
                    average.copy_(self.state[name])
        return loss.detach()

    def _call(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        """Predictions (S, B, n, 1, T) of all slots for stimuli (lanes, B, 1, F, T)."""

        def one(own: dict[str, Tensor], stimulus: Tensor) -> Tensor:
            return functional_call(self.base, own | self.shared, (stimulus,))

        if len(x) == 1:
            return vmap(one, in_dims=(0, None))(state, x[0])
        lanes = {name: tensor.unflatten(0, (len(x), -1)) for name, tensor in state.items()}
        return vmap(vmap(one, in_dims=(0, None)))(lanes, x).flatten(0, 1)

    def _losses(self, prediction: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """`Clips.loss` of each slot (S,)."""
        loss, heard = vmap(self.lanes[0].learning.losses)(prediction, y, weight)
        return loss.sum(1) / heard.sum(1).clamp(min=1)

    def _penalties(self) -> Tensor | float:
        total: Tensor | float = 0.0
        for j, (penalty, names) in enumerate(zip(self.recipe.penalties, self.penalized)):
            strength = self._per_slot([self.members[i].recipe.penalties[j].strength for i in self.slots])
            for name in names:
                total = total + (strength * vmap(PENALTIES[penalty.kind])(self.state[name])).sum()
        return total

    def _descend(self, gradients: dict[str, Tensor | None], epoch: float) -> None:
        """AdamW or SGD with momentum, with the learning rate and weight decay of each slot."""
        known = {name: g for name, g in gradients.items() if g is not None}
        if self.recipe.gradient_clip is not None and known:
            norm = torch.stack([g.flatten(1).square().sum(1) for g in known.values()]).sum(0).sqrt()
            factor = (self.recipe.gradient_clip / (norm + 1e-6)).clamp(max=1)
            known = {name: g * _along(factor, g) for name, g in known.items()}
        recipes = [self.members[i].recipe for i in self.slots]
        rates = self._per_slot([recipe.learning_rate_at(epoch) for recipe in recipes])
        decays = self._per_slot([recipe.weight_decay for recipe in recipes])
        self.steps += 1
        for name, g in known.items():
            p = self.state[name]
            rate, decay = _along(rates, p), _along(decays, p)
            if self.recipe.optimizer == "sgd":
                g = g + decay * p
                (velocity,) = self.moments.setdefault(name, (torch.zeros_like(g),))
                p.sub_(velocity.mul_(MOMENTUM).add_(g) * rate)
                continue
            mean, square = self.moments.setdefault(name, (torch.zeros_like(g), torch.zeros_like(g)))
            p.mul_(1 - rate * decay)
            mean.lerp_(g, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
            spread = (square.sqrt() / math.sqrt(1 - BETAS[1] ** self.steps)).add_(EPSILON)
            p.sub_(mean / spread * (rate / (1 - BETAS[0] ** self.steps)))

    def _per_slot(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=DTYPES[self.recipe.precision], device=self.device)  # (S,)

    # ---- scoring

    @torch.no_grad()
    def _evaluate(self, state: dict[str, Tensor]) -> tuple[Tensor, np.ndarray]:
        """`Clips.evaluate` of each slot: losses (S,) and scores (S, n)."""
        self.base.eval()
        x = torch.stack([here.held_out.x for here in self.lanes])  # (lanes, B, 1, F, T)
        together = max(1, SHARED_VALUES // (len(self.slots) * x[0, 0].numel()))
        prediction = torch.cat([self._call(state, part) for part in x.split(together, 1)], 1)
        targets, weights = (
            [here.of_members(getattr(here.held_out, name)) for here in self.lanes] for name in ("y", "weight")
        )
        y, weight = torch.cat(targets), _joined(weights, targets)
        loss = self._losses(prediction, y, weight).cpu()
        if self.recipe.monitor == "loss":
            per_neuron, heard = vmap(self.lanes[0].held_out.losses)(prediction, y, weight)
            return loss, (per_neuron / heard.clamp(min=1)).cpu().numpy()
        rate = prediction.exp() if self.recipe.loss == "poisson_log" else prediction
        scores = [
            here.held_out.scores(of_lane.transpose(0, 1).flatten(1, 2), self.recipe.monitor, here.columns.flatten())
            for here, of_lane in zip(self.lanes, rate.chunk(len(self.lanes)))  # (k, B, n, 1, T) as (B, k n, 1, T)
        ]
        return loss, np.concatenate(scores).reshape(len(self.slots), -1)


def _moving_buffers(model: nn.Module, x: Tensor) -> set[str]:
    """Names of the buffers that training changes: running means, say."""
    trial = copy.deepcopy(model).train()
    before = _copied(dict(trial.named_buffers()))
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        trial(x[..., :PROBE_FRAMES])
    return {name for name, buffer in trial.named_buffers() if not torch.equal(buffer, before[name])}


def _joined(weights: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The lanes' weights (S, ...), which some give frame by frame and others once a neuron."""
    if len({w.shape[1:] for w in weights}) > 1:
        weights = [w.expand_as(y) for w, y in zip(weights, targets)]
    return torch.cat(list(weights))


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _along(values: Tensor, like: Tensor) -> Tensor:
    """(S,) with trailing axes of one, to meet (S, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))
