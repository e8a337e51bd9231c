"""The hand-written loops: their gradients, and what torch asks of an operator.

That they are the recurrences they say is tested with the backbones that use them.
"""

import torch
from torch.autograd import gradcheck

from strflab.layers.loops import frame_by_frame, gru_recurrence, loop, lstm_recurrence, tanh_recurrence


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_gradients_of_the_hand_written_loops():
    n_frames, n_clips, size = 6, 2, 3
    h, c, bias = random(n_clips, size), random(n_clips, size), random(3 * size)
    assert gradcheck(lambda *a: tanh_recurrence(*a, 2), (random(n_frames, n_clips, size), h, random(size, size)))
    assert gradcheck(gru_recurrence, (random(n_frames, n_clips, 3 * size), h, random(3 * size, size), bias))
    assert gradcheck(lstm_recurrence, (random(n_frames, n_clips, 4 * size), h, c, random(4 * size, size)))


def test_the_compiled_operators_are_sound():
    """What torch asks of an operator: schema, shapes alone, gradient when traced."""
    h, c = random(2, 3), random(2, 3)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    for operator, arguments in {
        torch.ops.strflab.tanh_recurrence: (random(5, 2, 3), h, random(3, 3), 2),
        torch.ops.strflab.gru: (random(5, 2, 9), h, random(9, 3), random(9)),
        torch.ops.strflab.lstm: (random(5, 2, 12), h, c, random(12, 3)),
    }.items():
        torch.library.opcheck(operator.default, arguments, test_utils=checks)


def test_loop_is_a_scan_over_frames():
    x = torch.arange(12.0).reshape(6, 2)
    y, last = loop(lambda s, frame: (s + frame[0], 2 * (s + frame[0])), torch.zeros(2), (x,))
    torch.testing.assert_close(y, 2 * x.cumsum(0))
    torch.testing.assert_close(last, x.sum(0))


def test_transforms_are_noticed():
    seen = []

    def f(x):
        seen.append(frame_by_frame())
        return x.sum()

    f(torch.zeros(2))
    torch.func.vmap(f)(torch.zeros(3, 2))
    torch.func.grad(f)(torch.zeros(2))
    assert seen == [False, True, True]
