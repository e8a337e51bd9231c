"""Causal self-attention, over the whole past or over a window of it.

    y[t] = sum_s softmax_s( q[t] . k[s] / sqrt(d) ) v[s],        t - W < s <= t

Vaswani et al. 2017, doi 10.48550/arXiv.1706.03762; the window: Beltagy, Peters & Cohan 2020,
doi 10.48550/arXiv.2004.05150; rotary positions: Su et al. 2024, doi 10.1016/j.neucom.2023.127063.

The window is computed by blocks of frames: the M queries of a block meet the M + W - 1 keys that they can see, so time
and memory are O(T W). These layers map (B, T, H) to (B, T, H).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from strflab.layers.causal import CausalLayer
from strflab.validation import boolean, integer

SHORTEST_BLOCK = 32  # frames
LONGEST_WAVE = 10_000.0  # of the positions' sinusoids, in units of 2 pi frames


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Return what each query reads from the frames up to its own, (N, T, d); N counts clips and heads.

    A frame that is not finite spoils the queries that see it and no others.

    Parameters
    ----------
    q : (N, T, d)
    k, v : (N, P + T, d) the frames of `q` behind P frames of the past
    window : None, or W: a query sees its own frame and the W - 1 before
    """
    bad = ~(k.detach().sum(-1) + v.detach().sum(-1)).isfinite()  # (N, P + T)
    # a weight of zero does not silence NaN, so it is taken out here and given back to those who see it
    k, v = (x.masked_fill(bad.unsqueeze(-1), 0) for x in (k, v))
    n_frames, n_past = q.shape[1], k.shape[1] - q.shape[1]
    n_bad = F.pad(bad.cumsum(-1), (1, 0))  # (N, P + T + 1), before each frame
    n_seen = n_bad[:, 1 + n_past :]
    tracing = torch.compiler.is_compiling()  # a traced number of frames is a symbol, on which nothing may depend
    if window is None or (not tracing and window >= n_past + n_frames):
        y = _over_all(q, k, v)
    else:
        y = _over_window(q, k, v, window, tracing)
        oldest = torch.arange(n_frames, device=q.device) + n_past + 1 - window
        n_seen = n_seen - n_bad[:, oldest.clamp(min=0)]
    return y.masked_fill((n_seen > 0).unsqueeze(-1), torch.nan)


def _over_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n_frames, n_keys = q.shape[1], k.shape[1]
    visible = None
    if n_keys != n_frames:
        key, query = torch.arange(n_keys, device=q.device), torch.arange(n_frames, device=q.device)
        visible = key <= query[:, None] + n_keys - n_frames
    return _attend(q[None], k[None], v[None], visible)[0]


def _over_window(q: Tensor, k: Tensor, v: Tensor, window: int, tracing: bool) -> Tensor:
    n_frames, n_keys = q.shape[1], k.shape[1]
    size = max(SHORTEST_BLOCK, window // 4)
    if not tracing:
        size = max(1, min(size, n_frames))
    n_blocks = n_frames // size + 2 if tracing else -(-n_frames // size)
    query = torch.arange(size * n_blocks, device=q.device).view(n_blocks, size)
    key = query[:, :1] + torch.arange(1 - window, size, device=q.device)  # (n_blocks, W - 1 + size)

    lag = query.unsqueeze(2) - key.unsqueeze(1)
    key = key + n_keys - n_frames
    visible = (lag >= 0) & (lag < window) & (key >= 0).unsqueeze(1)  # (n_blocks, size, W - 1 + size)
    # where there is no such frame any may stand for it: its key is masked, its query's answer is dropped
    q = q[:, query.clamp(max=n_frames - 1)]  # (N, n_blocks, size, d)
    k, v = (x[:, key.clamp(0, n_keys - 1)] for x in (k, v))
    y = _attend(q, k, v, visible[None])
    if not tracing:
        return y.flatten(1, 2)[:, :n_frames]
    frame = torch.arange(n_frames, device=q.device)
    return y[:, frame // size, frame % size]


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """Attention to the visible keys; None: to those up to the query's own."""
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=visible is None)
    with sdpa_kernel(SDPBackend.MATH):  # under torch.func, where the fused kernels would run one item after another
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=visible is None)


class CausalSelfAttention(CausalLayer):
    """Multi-head attention of each frame to itself and to those before it, (B, T, H) -> (B, T, H).

    Streaming keeps the keys and values of W - 1 frames; without a window it keeps those of every frame heard, and its
    state and its cost a frame grow with the recording.

    Parameters
    ----------
    width : H
    n_heads : heads, which divide the width
    context_window : W, frames that a frame sees, its own included; None: all of the past
    rotary : turn queries and keys by an angle that grows with time, so that a weight depends on how far apart two
        frames are (the head's width must be even)

    Examples
    --------
    >>> CausalSelfAttention(16, n_heads=2, context_window=5)(torch.zeros(1, 100, 16)).shape
    torch.Size([1, 100, 16])
    """

    def __init__(self, width: int, n_heads: int = 1, context_window: int | None = None, rotary: bool = False):
        super().__init__()
        width, self.n_heads = integer("width", width), integer("n_heads", n_heads)
        self.context_window = None if context_window is None else integer("context_window", context_window)
        self.rotary = boolean("rotary", rotary)
        if width % self.n_heads:
            raise ValueError(f"n_heads={n_heads}: must divide the width of a token, {width}")
        if self.rotary and width // self.n_heads % 2:
            raise ValueError(f"n_heads={n_heads}: rotary positions need heads of even width, not {width // n_heads}")
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def memory(self) -> float:  # type: ignore[override]
        """The window in frames."""
        return float("inf") if self.context_window is None else self.context_window

    def forward(self, x: Tensor) -> Tensor:
        return self._attend(x, None)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, (k, v, n_heard) = self._attend(x, state)
        if self.context_window is not None:
            first = max(0, k.shape[1] - self.context_window + 1)
            k, v = k[:, first:], v[:, first:]
        return y, (k, v, n_heard)

    def _attend(self, x: Tensor, state: Any) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The answer, all keys and values, and the number of frames heard."""
        n_clips, n_frames = x.shape[:2]
        qkv = self.in_proj(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.flatten(1, 2)  # (B h, T, d)
        n_heard = torch.zeros((), dtype=torch.int64, device=x.device) if state is None else state[2]
        if self.rotary:
            angle = position_angles(n_heard, n_frames, k.shape[2])
            q, k = _rotate(q, angle), _rotate(k, angle)
        if state is not None:
            k, v = torch.cat([state[0], k], 1), torch.cat([state[1], v], 1)
        y = causal_attention(q, k, v, self.context_window).unflatten(0, (n_clips, self.n_heads))
        return self.out_proj(y.transpose(1, 2).flatten(2)), (k, v, n_heard + n_frames)


class SinusoidalPosition(CausalLayer):
    """Add to each frame the sines and cosines of its number in the sound, (B, T, H) -> (B, T, H).

        p[t, 2i] = sin(t / 10000^(2i/H)),    p[t, 2i + 1] = cos(t / 10000^(2i/H))

    They are computed where they are needed, so there is no longest sound.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            state = torch.zeros((), dtype=torch.int64, device=x.device)
        angle = position_angles(state, x.shape[1], x.shape[2])
        position = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)  # (T, H)
        return x + position.to(x.dtype), state + x.shape[1]


def position_angles(n_before: Tensor, n_frames: int, width: int) -> Tensor:
    """Return the angles (n_frames, width / 2) of the frames that follow the first `n_before` of a sound.

    In double precision: the number of a frame in a day-long recording is more than single precision resolves.
    """
    frame = (n_before + torch.arange(n_frames, device=n_before.device)).double()
    wave = torch.arange(0, width, 2, device=n_before.device).double()
    return frame[:, None] * LONGEST_WAVE ** (-wave / width)


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn each pair of features, the i-th of the first and of the second half, by its angle: (N, T, d)."""
    sine, cosine = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)
