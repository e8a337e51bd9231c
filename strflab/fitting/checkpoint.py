"""The state of a fit on disk: one safetensors file, replaced whole, with a checksum; no pickle.

A process killed while writing leaves the former file as it was. The file names the fit that it belongs to: model,
recipe and data.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from strflab.data import NeuralDataset
    from strflab.fitting.loop import _State
    from strflab.fitting.recipe import Recipe

VERSION = 3  # of the fitting code; raise it when the loop would go on differently
SECONDS_BETWEEN = 2.0  # saving more often would cost a quick fit more than it saves


def identity(
    model: nn.Module, recipe: Recipe, train: NeuralDataset, validation: NeuralDataset | None
) -> dict[str, Any]:
    """What makes two fits the same: model, recipe and data."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        "version": VERSION,
        "model": getattr(model, "config", type(model).__name__),
        "shapes": shapes,
        "recipe": recipe.to_dict(),
        "train": train.fingerprint(),
        "validation": None if validation is None else validation.fingerprint(),
    }


class Checkpoint:
    """The file fit.safetensors of a folder.

    Parameters
    ----------
    folder : made if it is not there
    belongs_to : `identity` of the fit
    """

    def __init__(self, folder: str | Path, belongs_to: dict[str, Any]):
        self.path = Path(folder) / "fit.safetensors"
        self.belongs_to = json.loads(json.dumps(belongs_to))
        self._saved_at = -np.inf

    def save(self, state: _State) -> None:
        """Write the state, at most every few seconds and always when the fit is finished."""
        if time.monotonic() - self._saved_at < SECONDS_BETWEEN and not state.finished:
            return
        from safetensors.torch import save

        tensors = {name: t.detach().cpu().contiguous() for name, t in _tensors(state).items()}
        facts = {
            "belongs_to": self.belongs_to,
            "epoch": state.epoch,
            "seconds": state.seconds,
            "history": state.history,
            "best_epoch": state.best_epoch,
            "best_score": state.best_score,
            "optimizer": [{k: v for k, v in g.items() if k != "params"} for g in state.optimizer.param_groups],
        }
        text = json.dumps(facts)
        header = {"facts": text, "sha256": _checksum(tensors, text)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with open(partial, "wb") as file:
            file.write(save(tensors, header))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)
        self._saved_at = time.monotonic()

    def load(self, state: _State) -> None:
        """Put the saved state, if there is one, into `state`.

        Raises
        ------
        ValueError : the file is damaged, or belongs to another fit
        """
        if not self.path.is_file():
            return
        tensors, facts = self._read()
        for part, told in self.belongs_to.items():
            if facts["belongs_to"].get(part) != told:
                raise ValueError(
                    f"checkpoint {self.path} belongs to a fit with another {part}: delete it, or choose another folder"
                )
        _take(state, tensors)
        state.epoch, state.seconds, state.history = facts["epoch"], facts["seconds"], facts["history"]
        state.best_epoch, state.best_score = facts["best_epoch"], facts["best_score"]
        for group, saved in zip(state.optimizer.param_groups, facts["optimizer"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            if header.get("sha256") != _checksum(tensors, header.get("facts", "")):
                raise ValueError("its checksum is wrong")
            return tensors, json.loads(header["facts"])
        except (SafetensorError, ValueError, OSError) as error:
            raise ValueError(
                f"checkpoint {self.path} is damaged ({error}): delete it to start the fit afresh, or restore a copy"
            ) from None


def _tensors(state: _State) -> dict[str, Tensor]:
    """Every tensor of the state, by name."""
    named = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    named |= {f"best/{k}": v for k, v in state.best.items()}
    named |= {f"average/{k}": v for k, v in state.average.items()}
    for i, slots in state.optimizer.state_dict()["state"].items():
        named |= {f"optimizer/{i}/{k}": v for k, v in slots.items() if isinstance(v, Tensor)}
    named["random/order"] = state.order.get_state()
    named["random/torch"] = torch.get_rng_state()
    device = next(state.model.parameters()).device
    if device.type == "cuda":
        named["random/cuda"] = torch.cuda.get_rng_state(device)
    named["best_scores"] = torch.from_numpy(np.asarray(state.best_scores, np.float64))
    return {k: v.clone() for k, v in named.items()}  # no two may share memory


def _take(state: _State, tensors: dict[str, Tensor]) -> None:
    """Put saved tensors where `_tensors` found them."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    state.model.load_state_dict(below("model/"))
    for kept, prefix in ((state.best, "best/"), (state.average, "average/")):
        for name, tensor in below(prefix).items():
            kept[name].copy_(tensor)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in below("optimizer/").items():
        index, _, key = name.partition("/")
        slots.setdefault(int(index), {})[key] = tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state.order.set_state(tensors["random/order"])
    torch.set_rng_state(tensors["random/torch"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], next(state.model.parameters()).device)
    state.best_scores = tensors["best_scores"].numpy()


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
