"""Time loops written by hand, forward and backward.

Each function is the recurrence that its name says, from inputs already projected for all frames at once. The backward
loop carries the gradient of the state only; what does not depend on it is computed for all frames before the loop, and
the gradients of the weights are one product after it. Time comes first: (T, B, ...).

`hand_written` makes such a function of its two loops: an autograd function, and for torch.compile and torch.export an
operator that they take whole, for any T. Inside torch.func neither can go; `frame_by_frame` tells, and `loop` is the
plain loop that can. In float32 on a CPU the loops are compiled ones, where there is a compiler (see
`strflab.layers.native`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strflab.layers import native

Step = Callable[[Any, Any], tuple[Any, Tensor]]


def frame_by_frame() -> bool:
    """Whether a torch.func transform (vmap, grad, jacrev) is at work, for which only the plain loop will do."""
    return not torch.compiler.is_compiling() and native.transformed()


def loop(step: Step, state: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Any]:
    """Return the stacked outputs and the last state of ``state, y = step(state, x)`` over frames.

    Parameters
    ----------
    step : one frame
    state : what the first frame finds
    inputs : tensors (T, ...); `step` is given the tuple of their t-th entries
    """
    frames = []
    for x in zip(*(v.unbind(0) for v in inputs)):
        state, y = step(state, x)
        frames.append(y)
    return torch.stack(frames), state


def hand_written(
    name: str,
    forward: Callable[..., Any],
    forward_shapes: Callable[..., Any],
    backward: Callable[..., Any],
    backward_shapes: Callable[..., Any],
    save: Callable[..., None],
    gradients: Callable[..., tuple[Tensor | None, ...]],
) -> Callable[..., Any]:
    """Return `forward` as a differentiable function.

    Parameters
    ----------
    name : of the operator in a compiled program
    forward, backward : the loops; tensors in, new tensors out
    forward_shapes, backward_shapes : the same on shapes alone, empty tensors out
    save : ``save(ctx, inputs, output)`` keeps what the gradient needs
    gradients : ``gradients(backward, ctx, *grads)`` calls the backward loop and returns the inputs' gradients
    """
    forward_operator = torch.library.custom_op(f"strflab::{name}", forward, mutates_args=())
    backward_operator = torch.library.custom_op(f"strflab::{name}_backward", backward, mutates_args=())
    forward_operator.register_fake(forward_shapes)
    backward_operator.register_fake(backward_shapes)
    forward_operator.register_autograd(lambda ctx, *g: gradients(backward_operator, ctx, *g), setup_context=save)
    methods = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(save),
        "backward": staticmethod(
            torch.autograd.function.once_differentiable(lambda ctx, *g: gradients(backward, ctx, *g))
        ),
    }
    function: Any = type(name, (torch.autograd.Function,), methods)

    def call(*inputs: Any) -> Any:
        # the operator's first call imports torch's compiler, a second that eager use should not pay
        return forward_operator(*inputs) if torch.compiler.is_compiling() else function.apply(*inputs)

    return call


# ---- tanh


def tanh_recurrence(x: Tensor, h: Tensor, weight: Tensor, n_tanh: int) -> Tensor:
    """Return y (T, B, H) with ``y[t] = f(x[t] + weight y[t-1])``, f the tanh of the first `n_tanh` units only.

    Parameters
    ----------
    x : (T, B, H) input
    h : (B, H) the value y[-1] before the first frame
    weight : (H, H)
    n_tanh : units that are squashed; the others are linear
    """
    return _tanh(x, h, weight, n_tanh)


def _tanh_forward(x: Tensor, h: Tensor, weight: Tensor, n_tanh: int) -> Tensor:
    y = x.new_empty(x.shape)
    if native.usable(x, h, weight):
        _native("tanh_forward", x, (x, h, weight), (y,), n_tanh)
        return y
    transposed = weight.t().contiguous()
    for x_t, y_t, squashed in zip(x.unbind(0), y.unbind(0), y[..., :n_tanh].unbind(0)):
        torch.addmm(x_t, h, transposed, out=y_t)
        squashed.tanh_()
        h = y_t
    return y


def _tanh_backward(grad: Tensor, weight: Tensor, y: Tensor, n_tanh: int) -> Tensor:
    """Gradients (T, B, H) before the nonlinearity, from those of its result y."""
    d = grad.new_empty(grad.shape)
    if native.usable(grad, weight, y):
        _native("tanh_backward", grad, (grad, weight, y), (d,), n_tanh)
        return d
    slopes = torch.cat([1 - y[..., :n_tanh] ** 2, torch.ones_like(y[..., n_tanh:])], -1)
    after = grad.new_zeros(grad.shape[1:])
    for grad_t, slopes_t, d_t in zip(*(reversed(v.unbind(0)) for v in (grad, slopes, d))):
        after = torch.addmm(grad_t, after, weight, out=d_t).mul_(slopes_t)
    return d


def _tanh_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, h, weight, ctx.n_tanh = inputs
    ctx.save_for_backward(h, weight, output)


def _tanh_gradients(backward: Callable[..., Tensor], ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    h, weight, y = ctx.saved_tensors
    d = backward(grad, weight, y, ctx.n_tanh)
    return d, d[0] @ weight, _outer(d, _shifted(y, h)) if ctx.needs_input_grad[2] else None, None


_tanh = hand_written(
    "tanh_recurrence",
    _tanh_forward,
    lambda x, h, weight, n_tanh: x.new_empty(x.shape),
    _tanh_backward,
    lambda grad, weight, y, n_tanh: grad.new_empty(grad.shape),
    _tanh_save,
    _tanh_gradients,
)


# ---- GRU


def gru_recurrence(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the states (T, B, H) of a GRU (gates r, z, n).

    Parameters
    ----------
    x : (T, B, 3H) the input's part of the gates, its bias included
    h : (B, H) the state before the first frame
    weight, bias : (3H, H) and (3H,) of the recurrent part
    """
    return _gru(x, h, weight, bias)[0]


def _gru_forward(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, gates r and z (T, B, 2H), candidate n, and the recurrent part u of the candidate."""
    y, rz, n, u = _gru_forward_shapes(x, h, weight, bias)
    if native.usable(x, h, weight, bias):
        _native("gru_forward", y, (x, h, weight, bias), (y, rz, n, u))
        return y, rz, n, u
    size, transposed = h.shape[-1], weight.t().contiguous()
    recurrent = x.new_empty(h.shape[0], 3 * size)
    to_gates, to_candidate = recurrent.split([2 * size, size], -1)
    parts = (v.unbind(0) for v in (*x.split([2 * size, size], -1), rz, *rz.chunk(2, -1), n, u, y))
    for x_rz, x_n, rz_t, r_t, z_t, n_t, u_t, y_t in zip(*parts):
        torch.addmm(bias, h, transposed, out=recurrent)
        torch.add(x_rz, to_gates, out=rz_t).sigmoid_()
        u_t.copy_(to_candidate)
        torch.addcmul(x_n, r_t, u_t, out=n_t).tanh_()
        h = torch.lerp(n_t, h, z_t, out=y_t)
    return y, rz, n, u


def _gru_forward_shapes(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (*x.shape[:2], h.shape[-1])
    return x.new_empty(shape), x.new_empty(*shape[:2], 2 * shape[2]), x.new_empty(shape), x.new_empty(shape)


def _gru_backward(
    grad: Tensor, h: Tensor, weight: Tensor, y: Tensor, rz: Tensor, n: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (T, B, 3H), of the recurrent part of the candidate (T, B, H) and of the first state (B, H)."""
    dx, du, first = _gru_backward_shapes(grad, h, weight, y, rz, n, u)
    if native.usable(grad, h, weight, y):
        _native("gru_backward", grad, (grad, h, weight, y, rz, n, u), (dx, du, first))
        return dx, du, first
    before, (r, z) = _shifted(y, h), rz.chunk(2, -1)
    to_n = (1 - z) * (1 - n * n)
    slopes = torch.stack([to_n * u * r * (1 - r), (before - n) * z * (1 - z), to_n * r], 2)
    dh, d = grad.new_empty(grad.shape), grad.new_empty(slopes.shape)
    kept = first.zero_().clone()
    parts = (reversed(v.unbind(0)) for v in (grad, slopes, z, dh, dh.unsqueeze(2), d, d.flatten(2)))
    for grad_t, slopes_t, z_t, dh_t, dh_wide, d_t, d_flat in zip(*parts):
        torch.add(grad_t, first, out=dh_t)
        torch.mul(slopes_t, dh_wide, out=d_t)
        torch.mul(dh_t, z_t, out=kept)
        torch.addmm(kept, d_flat, weight, out=first)
    torch.cat([d[:, :, :2].flatten(2), to_n * dh], -1, out=dx)
    return dx, du.copy_(d[:, :, 2]), first


def _gru_backward_shapes(
    grad: Tensor, h: Tensor, weight: Tensor, y: Tensor, rz: Tensor, n: Tensor, u: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return grad.new_empty(*grad.shape[:2], 3 * grad.shape[2]), grad.new_empty(grad.shape), grad.new_empty(h.shape)


def _gru_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[1], inputs[2], *output)


def _gru_gradients(backward: Callable[..., Any], ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
    h, weight, y, *gates = ctx.saved_tensors
    dx, du, first = backward(grad, h, weight, y, *gates)
    if not any(ctx.needs_input_grad[2:]):
        return dx, first, None, None
    before, d_rz = _shifted(y, h), dx[..., : 2 * h.shape[-1]]
    d_weight = torch.cat([_outer(d_rz, before), _outer(du, before)])
    return dx, first, d_weight, torch.cat([d_rz.sum((0, 1)), du.sum((0, 1))])


_gru = hand_written(
    "gru", _gru_forward, _gru_forward_shapes, _gru_backward, _gru_backward_shapes, _gru_save, _gru_gradients
)


# ---- LSTM


def lstm_recurrence(x: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and cells (T, B, H) of an LSTM (gates i, f, g, o).

    Parameters
    ----------
    x : (T, B, 4H) the input's part of the gates, with both biases
    h, c : (B, H) output and cell before the first frame
    weight : (4H, H) of the recurrent part
    """
    return _lstm(x, h, c, weight)[:2]


def _lstm_forward(x: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, cells, gates i, f, g, o (T, B, 4H), and tanh of the cells."""
    y, cells, gates, squashed = _lstm_forward_shapes(x, h, c, weight)
    if native.usable(x, h, c, weight):
        _native("lstm_forward", y, (x, h, c, weight), (y, cells, gates, squashed))
        return y, cells, gates, squashed
    transposed = weight.t().contiguous()
    parts = (v.unbind(0) for v in (x, gates, gates[..., : 2 * h.shape[-1]], *gates.chunk(4, -1), cells, squashed, y))
    for x_t, gates_t, i_f, i_t, f_t, g_t, o_t, c_t, s_t, y_t in zip(*parts):
        torch.addmm(x_t, h, transposed, out=gates_t)
        i_f.sigmoid_()
        g_t.tanh_()
        o_t.sigmoid_()
        torch.mul(f_t, c, out=c_t).addcmul_(i_t, g_t)
        torch.tanh(c_t, out=s_t)
        h, c = torch.mul(o_t, s_t, out=y_t), c_t
    return y, cells, gates, squashed


def _lstm_forward_shapes(x: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (*x.shape[:2], h.shape[-1])
    return x.new_empty(shape), x.new_empty(shape), x.new_empty(x.shape), x.new_empty(shape)


def _lstm_backward(
    grad_y: Tensor, grad_c: Tensor, c: Tensor, weight: Tensor, cells: Tensor, gates: Tensor, squashed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the gates (T, B, 4H), of the first output and of the first cell."""
    d, h_before, c_before = _lstm_backward_shapes(grad_y, grad_c, c, weight, cells, gates, squashed)
    if native.usable(grad_y, grad_c, c, weight):
        inputs = (grad_y, grad_c, c, weight, cells, gates, squashed)
        _native("lstm_backward", grad_y, inputs, (d, h_before, c_before))
        return d, h_before, c_before
    i, f, g, o = gates.chunk(4, -1)
    slopes = torch.stack([g * i * (1 - i), _shifted(cells, c) * f * (1 - f), i * (1 - g * g)], 2)
    to_o, to_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
    dh, dc = h_before.zero_().clone(), c_before.zero_().clone()
    each = d.unflatten(2, (4, -1))
    views = (grad_y, grad_c, slopes, to_o, to_c, f, d, each[:, :, :3], each[:, :, 3])
    parts = (reversed(v.unbind(0)) for v in views)
    for grad_y_t, grad_c_t, slopes_t, to_o_t, to_c_t, f_t, d_t, d_ifg, d_o in zip(*parts):
        torch.add(grad_y_t, h_before, out=dh)
        torch.add(grad_c_t, c_before, out=dc).addcmul_(dh, to_c_t)
        torch.mul(slopes_t, dc.unsqueeze(1), out=d_ifg)
        torch.mul(to_o_t, dh, out=d_o)
        torch.mul(dc, f_t, out=c_before)
        torch.mm(d_t, weight, out=h_before)
    return d, h_before, c_before


def _lstm_backward_shapes(
    grad_y: Tensor, grad_c: Tensor, c: Tensor, weight: Tensor, cells: Tensor, gates: Tensor, squashed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return grad_y.new_empty(gates.shape), grad_y.new_empty(c.shape), grad_y.new_empty(c.shape)


def _lstm_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[1:], *output)


def _lstm_gradients(
    backward: Callable[..., Any], ctx: Any, grad_y: Tensor, grad_c: Tensor, *unused: Tensor
) -> tuple[Tensor | None, ...]:
    h, c, weight, y, cells, gates, squashed = ctx.saved_tensors
    d, first_h, first_c = backward(grad_y, grad_c, c, weight, cells, gates, squashed)
    return d, first_h, first_c, _outer(d, _shifted(y, h)) if ctx.needs_input_grad[3] else None


_lstm = hand_written(
    "lstm", _lstm_forward, _lstm_forward_shapes, _lstm_backward, _lstm_backward_shapes, _lstm_save, _lstm_gradients
)


def _native(name: str, like: Tensor, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], *sizes: int) -> None:
    """The compiled loop over the frames of tensors such as `like` (T, B, H), clips shared out over threads."""
    inputs = tuple(v.contiguous() for v in inputs)
    native.run(name, *inputs, *outputs, *like.shape, *sizes, over=like.shape[1])


def _shifted(y: Tensor, first: Tensor) -> Tensor:
    """The values one frame before those of y."""
    return torch.cat([first.unsqueeze(0), y[:-1]])


def _outer(d: Tensor, h: Tensor) -> Tensor:
    """Sum over frames and clips of the products of d (T, B, M) and h (T, B, H): (M, H)."""
    return d.flatten(0, 1).t() @ h.flatten(0, 1)
