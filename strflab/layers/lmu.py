"""The Legendre memory unit: a recurrent network that holds the last theta frames of one signal.

    u = e_x x + e_h h + e_m m,    m = A m + B u,    h = tanh(W_x x + W_h h + W_m m)

on the right the values of the frame before, but for the m that feeds h. The memory m are the coefficients, on shifted
Legendre polynomials P_i, of the recent past of u,

    u[t - s] = sum_i m_i P_i(2 s / theta - 1),    0 <= s <= theta

kept by a linear system that is the Pade approximation of a delay by theta, here discretised exactly for a u constant
over a frame (zero-order hold):

    theta dm/dt = a m + b u,    a_ij = (2i + 1) (-1 if i < j else (-1)^(i-j+1)),    b_i = (2i + 1) (-1)^i

Voelker, Kajic & Eliasmith 2019, Advances in Neural Information Processing Systems 32 (it has no doi).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.loops import frame_by_frame, loop, tanh_recurrence
from strflab.layers.recurrent import Backbone
from strflab.validation import integer, number


class LMU(Backbone):
    """The Legendre memory unit.

    Parameters
    ----------
    size : width H of input and output
    memory_size : coefficients that hold the past
    theta : length of the past that they hold, frames

    Examples
    --------
    >>> LMU(8, memory_size=16, theta=20)(torch.zeros(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, size: int, memory_size: int = 128, theta: float = 99.0):
        super().__init__(size)
        self.memory_size = integer("memory_size", memory_size, maximum=4096)
        self.theta = number("theta", theta, above=0)
        a, b = legendre_delay(self.memory_size, self.theta)
        self.register_buffer("A", a.to(torch.get_default_dtype()))  # (M, M)
        self.register_buffer("B", b.to(torch.get_default_dtype()))  # (M,)
        self.A: Tensor
        self.B: Tensor
        self.e_x = nn.Parameter(_lecun_uniform(self.size))
        self.e_h = nn.Parameter(_lecun_uniform(self.size))
        self.e_m = nn.Parameter(torch.zeros(self.memory_size))
        self.W_x = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.size, self.size)))
        self.W_h = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.size, self.size)))
        self.W_m = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.size, self.memory_size)))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        with torch.autocast(x.device.type, enabled=False):  # a memory rounded at every frame would drift
            x = x.transpose(0, 1).to(self.W_x.dtype)  # (T, B, H)
            if state is None:
                state = x.new_zeros(x.shape[1], self.size + self.memory_size)
            if frame_by_frame():
                y, (h, m) = loop(self.step, state.split([self.size, self.memory_size], -1), (x,))
                return y.transpose(0, 1), torch.cat([h, m], -1)
            joint = self._joint(x, state)
            return joint[..., : self.size].transpose(0, 1), joint[-1]

    def step(self, state: tuple[Tensor, Tensor], inputs: tuple[Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """One frame, as the equations say: the state is h (B, H) and m (B, M).

        Parameters
        ----------
        state : (h, m)
        inputs : the input's part of the next h, and of what is written to the memory
        """
        (h, m), (x,) = state, inputs
        u = x @ self.e_x + h @ self.e_h + m @ self.e_m  # (B,)
        m = m @ self.A.T + u[:, None] * self.B
        h = torch.tanh(x @ self.W_x.T + h @ self.W_h.T + m @ self.W_m.T)
        return (h, m), h

    def _joint(self, x: Tensor, state: Tensor) -> Tensor:
        """All frames of h and m side by side (T, B, H + M): with u put into m, and m into h, one product a frame."""
        m_from = torch.cat([torch.outer(self.B, self.e_h), self.A + torch.outer(self.B, self.e_m)], 1)
        h_from = F.pad(self.W_h, (0, self.memory_size)) + self.W_m @ m_from
        m_from_x = torch.outer(self.B, self.e_x)
        from_x = torch.cat([self.W_x + self.W_m @ m_from_x, m_from_x])
        return tanh_recurrence(F.linear(x, from_x), state, torch.cat([h_from, m_from]), self.size)


def legendre_delay(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return A (order, order) and B (order,) of the memory ``m[t] = A m[t-1] + B u[t]``, in float64.

    Parameters
    ----------
    order : coefficients
    theta : length of the memory, frames
    """
    i = torch.arange(order, dtype=torch.float64)
    sign = torch.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1))
    a, b = (2 * i[:, None] + 1) * sign / theta, (2 * i + 1) * (-1.0) ** i / theta
    # the exponential of [[a, b], [0, 0]] is [[A, B], [0, 1]]
    joint = torch.linalg.matrix_exp(F.pad(torch.cat([a, b[:, None]], 1), (0, 0, 0, 1)))
    return joint[:order, :order], joint[:order, order]


def _lecun_uniform(n: int) -> Tensor:
    bound = math.sqrt(3 / n)
    return torch.empty(n).uniform_(-bound, bound)
