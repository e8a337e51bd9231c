"""What the scores accept, brought to one form: a list of clips, each (N, R, T) with its prediction (N, T).

Arrays keep their memory here: a clip is a view of what the caller passed, on the caller's device.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Any  # torch tensor or numpy array; or a list of them, one a clip


@dataclass(frozen=True)
class Clips:
    """Responses, predictions and masks clip by clip, cut to their lengths, and the way back to the caller's type."""

    responses: list[Tensor]  # (N, R_k, T_k)
    predictions: list[Tensor]  # (N, T_k), zeros where the score needs none
    masks: list[Tensor | None]  # (T_k,) or (N, T_k), True where a frame counts
    wrap: Callable[[Tensor], Any]

    @property
    def n_neurons(self) -> int:
        return self.responses[0].shape[0]

    @property
    def n_repeats(self) -> int:
        return max(x.shape[1] for x in self.responses)

    @property
    def device(self) -> torch.device:
        return self.responses[0].device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        return zip(self.responses, self.predictions, self.masks)


def read_clips(
    response: ArrayLike,
    prediction: ArrayLike | None = None,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
) -> Clips:
    """Check the shapes of a call and return its clips; ValueError names the argument that does not fit."""
    as_torch = _holds_torch(response) or _holds_torch(prediction)
    responses, predictions = _split(response, prediction)
    if not responses:
        raise ValueError("response holds no clip")
    device = responses[0].device
    if device.type == "mps":  # has no float64
        device = torch.device("cpu")
    responses = [x.to(device) for x in responses]
    frames = [x.shape[-1] for x in responses]
    n_neurons = responses[0].shape[0]
    for k, x in enumerate(responses):
        if x.shape[0] != n_neurons:
            raise ValueError(f"response has {x.shape[0]} neurons on clip {k} and {n_neurons} on clip 0")
    if predictions is None:
        predictions = [x.new_zeros(n_neurons, 1).expand(-1, T) for x, T in zip(responses, frames)]
    for k, (p, T) in enumerate(zip(predictions, frames)):
        if p.shape != (n_neurons, T):
            raise ValueError(
                f"prediction is (neurons, frames) = {tuple(p.shape)} on clip {k}; response has {(n_neurons, T)}"
            )
    masks = _masks(mask, n_neurons, frames, device)
    used = _lengths(lengths, frames)
    return Clips(
        responses=[x[..., :n] for x, n in zip(responses, used)],
        predictions=[p.to(device)[..., :n] for p, n in zip(predictions, used)],
        masks=[None if m is None else m[..., :n] for m, n in zip(masks, used)],
        wrap=(lambda value: value) if as_torch else (lambda value: value.cpu().numpy()),
    )


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: it must be one of {', '.join(map(repr, allowed))}")
    return value


def tensor(value: Any, name: str) -> Tensor:
    """A detached tensor that shares the caller's memory where it can."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.is_complex():
            raise ValueError(f"{name} must be real, not {value.dtype}")
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of real numbers, not of {array.dtype}")
    if not (array.flags.writeable and array.flags.c_contiguous and array.dtype.isnative):
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array)


def _holds_torch(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(isinstance(item, Tensor) for item in value)
    return isinstance(value, Tensor)


def _split(response: Any, prediction: Any) -> tuple[list[Tensor], list[Tensor] | None]:
    if isinstance(response, list | tuple):
        responses = [_one_response(tensor(x, "response")) for x in response]
        if prediction is None:
            return responses, None
        if isinstance(prediction, list | tuple):
            predictions = [_one_prediction(tensor(p, "prediction")) for p in prediction]
        else:  # a model's padded batch beside ragged responses
            p = tensor(prediction, "prediction")
            if p.ndim not in (3, 4):
                raise ValueError(
                    f"prediction beside a list of responses must be a list or (B, N, 1, T), not {p.ndim}-d"
                )
            predictions = [_one_prediction(one)[..., : x.shape[-1]] for one, x in zip(p, responses)]
            if len(p) != len(responses):
                raise ValueError(f"prediction holds {len(p)} clips and response {len(responses)}")
        if len(predictions) != len(responses):
            raise ValueError(f"prediction holds {len(predictions)} clips and response {len(responses)}")
        return responses, predictions
    if isinstance(prediction, list | tuple):
        raise ValueError("prediction is a list of clips: response must be a list too")
    x = tensor(response, "response")
    if prediction is None:
        if x.ndim not in (3, 4):
            raise ValueError(f"response must be (B, N, R, T) or (N, R, T), not {tuple(x.shape)}")
        return ([x] if x.ndim == 3 else list(x)), None
    return _split_pair(x, tensor(prediction, "prediction"))


def _split_pair(x: Tensor, p: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    if p.ndim == 4 and p.shape[2] == 1:
        p = p[:, :, 0]
    shapes = f"prediction {tuple(p.shape)} and response {tuple(x.shape)}"
    if x.ndim == 4 and p.ndim == 3:
        if len(x) != len(p):
            raise ValueError(f"prediction holds {len(p)} clips and response {len(x)}")
        return list(x), list(p)
    if x.ndim == 3 and p.ndim == 3:
        if x.shape == p.shape and x.shape[1] == 1 < x.shape[0]:
            raise ValueError(f"{shapes}: (B, 1, T) or (N, 1, T)? Write the response as (B, N, R, T)")
        if x.shape == p.shape:  # (B, N, T), a PSTH
            return list(x[:, :, None]), list(p)
        if p.shape[1] == 1:
            return [x], [p[:, 0]]
    if x.ndim == 3 and p.ndim == 2:
        return [x], [p]
    if x.ndim == 2 and p.ndim == 2:
        return [x[:, None]], [p]
    raise ValueError(f"{shapes} do not fit: they must be (B, N, 1, T) and (B, N, R, T), or (N, T) and (N, R, T)")


def _one_response(x: Tensor) -> Tensor:
    if x.ndim not in (2, 3):
        raise ValueError(f"response must hold clips (N, R, T) or (N, T), not {tuple(x.shape)}")
    return x[:, None] if x.ndim == 2 else x


def _one_prediction(p: Tensor) -> Tensor:
    if p.ndim == 3 and p.shape[1] == 1:
        return p[:, 0]
    if p.ndim != 2:
        raise ValueError(f"prediction must hold clips (N, T) or (N, 1, T), not {tuple(p.shape)}")
    return p


def _lengths(lengths: Any, frames: list[int]) -> list[int]:
    if lengths is None:
        return frames
    values = tensor(lengths, "lengths")
    if values.is_floating_point() or tuple(values.shape) != (len(frames),):
        raise ValueError(f"lengths must be {len(frames)} integers, one a clip, not {lengths!r}")
    used = [int(v) for v in values.tolist()]
    for k, (n, T) in enumerate(zip(used, frames)):
        if not 0 <= n <= T:
            raise ValueError(f"lengths[{k}]={n}: clip {k} has {T} frames")
    return used


def _masks(mask: Any, n_neurons: int, frames: list[int], device: torch.device) -> list[Tensor | None]:
    if mask is None:
        return [None] * len(frames)
    if isinstance(mask, list | tuple):
        clips = [tensor(m, "mask") for m in mask]
    else:
        m = tensor(mask, "mask")
        one_clip = len(frames) == 1 and (m.ndim == 1 or tuple(m.shape) == (n_neurons, frames[0]))
        clips = [m] if one_clip else list(m)
    if len(clips) != len(frames):
        raise ValueError(f"mask holds {len(clips)} clips and response {len(frames)}")
    for k, (m, T) in enumerate(zip(clips, frames)):
        if m.dtype != torch.bool:
            raise ValueError(f"mask must be boolean, True where a frame counts, not {m.dtype}")
        if m.ndim == 2 and m.shape[0] == 1:
            clips[k] = m = m[0]
        if tuple(m.shape) not in ((T,), (n_neurons, T)):
            raise ValueError(f"mask is {tuple(m.shape)} on clip {k}: it must be {(T,)} or {(n_neurons, T)}")
    return [m.to(device) for m in clips]
