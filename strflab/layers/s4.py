"""Structured state spaces: a linear recurrence a channel, run as one long convolution or frame by frame.

    s[t] = A s[t-1] + B x[t],    y[t] = 2 Re(C s[t]) + D x[t],    so    y = K * x + D x,    K[l] = 2 Re(C A^l B)

Only one of each conjugate pair of states is kept. A and B are the discretised matrices of ``ds/dt = a s + b x`` with a
step delta a channel. In `S4` (Gu, Goel & Re 2021, doi 10.48550/arXiv.2111.00396) a is diagonal plus low rank, starts as
the HiPPO-LegS matrix (Gu et al. 2020, doi 10.48550/arXiv.2008.07669), and is discretised by the bilinear rule; in `S4D`
(Gu et al. 2022, doi 10.48550/arXiv.2206.11893) it is diagonal, with a zero-order hold. After the recurrence comes a
GELU, and a GLU that mixes the channels.

The kernel takes two small products rather than a long one: with l = p Q + q, K[l] = (C A^(pQ)) (A^q B). For S4 the
powers of A come from repeated squaring, exact and stable because A shrinks every state; the papers' Cauchy kernel gives
the same numbers, but with as much memory as frames times states.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers import native
from strflab.layers.recurrent import Backbone
from strflab.validation import integer, number

TRACED_BITS = 20  # powers of A^Q that a compiled program, which knows no length, is ready for: 60 million frames
TRACED_Q = 64
SHORT, LONG = 4, 512  # frames of sound that come in pieces: up to SHORT one by one, more at most LONG at once


class _StateSpace(Backbone):
    """What S4 and S4D share: a subclass says what one frame does to the state, and what the kernel is."""

    def __init__(self, size: int, state_size: int = 64, delta_min: float = 1e-3, delta_max: float = 0.1):
        super().__init__(size)
        self.state_size = integer("state_size", state_size, 2, 4096)
        if self.state_size % 2:
            raise ValueError(f"state_size={state_size!r}: must be even, for the states are conjugate pairs")
        delta_min = number("delta_min", delta_min, above=0)
        delta_max = number("delta_max", delta_max, at_least=delta_min)
        shape = (self.size, self.state_size // 2)
        log_min, log_max = math.log(delta_min), math.log(delta_max)
        self.log_delta = nn.Parameter(torch.empty(self.size).uniform_(log_min, log_max))
        self.log_a_real = nn.Parameter(torch.full(shape, math.log(0.5)))
        self.C = nn.Parameter(torch.randn(*shape, 2) * math.sqrt(0.5))
        self.D = nn.Parameter(torch.randn(self.size))
        self.mix = nn.Linear(self.size, 2 * self.size)
        self.a_imag: nn.Parameter

    def kernel(self, n: int) -> Tensor:
        """The first `n` values of the convolution's kernel (H, n).

        Parameters
        ----------
        n : frames
        """
        raise NotImplementedError

    def discrete(self) -> Any:
        """What `advance` needs."""
        raise NotImplementedError

    def advance(self, discrete: Any, state: Tensor, x: Tensor) -> Tensor:
        """The state (B, H, N/2) one frame on, with the input x (B, H).

        Parameters
        ----------
        discrete : what the method `discrete` returns
        state : (B, H, N/2) complex
        x : (B, H)
        """
        raise NotImplementedError

    def transfer(self, n: int, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How a state comes out and a sound goes in: ``2 C A^(k+1)`` and ``A^k B``, k < n, both (H, n, N) as real
        numbers (`_dual` and `_real`), and ``A^n state``.

        Parameters
        ----------
        n : frames
        state : (B, H, N/2) complex
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has neither FFT nor the digits
            x = x.to(self.D.dtype).transpose(1, 2)  # (B, H, T)
            n_frames = x.shape[-1]
            y = fft_convolution(x, self.kernel(n_frames)) + self.D[:, None] * x
        return self._mixed(y)

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.D.dtype)
            if state is None:
                state = torch.view_as_complex(self.C).new_zeros(x.shape[0], *self.C.shape[:2])
            by_frame = torch.compiler.is_compiling() or x.shape[1] <= SHORT
            parts = []
            for piece in x.transpose(1, 2).split(x.shape[1] if by_frame else LONG, 2):
                y, state = (self._frames if by_frame else self._piece)(piece, state)
                parts.append(y + self.D[:, None] * piece)
        return self._mixed(torch.cat(parts, 2)), state

    def _frames(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrence's output (B, H, T) for x (B, H, T), and the state after it, frame by frame."""
        discrete, C = self.discrete(), torch.view_as_complex(self.C)
        frames = []
        for x_t in x.unbind(2):
            state = self.advance(discrete, state, x_t)
            frames.append(2 * (C * state).sum(-1).real)
        return torch.stack(frames, 2), state

    def _piece(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The same at once: what the frames give, and what the state before them still does."""
        n = x.shape[2]
        rows, columns, carried = self.transfer(n, state)
        kernel = (columns @ (2 * _dual(torch.view_as_complex(self.C))).unsqueeze(-1)).squeeze(
            -1
        )  # its terms are at hand
        y = fft_convolution(x, kernel) + (_real(state).transpose(0, 1) @ rows.mT).transpose(0, 1)
        entered = (x.transpose(0, 1) @ columns.flip(1)).transpose(0, 1)  # (B, H, N)
        return y, carried + torch.complex(*entered.chunk(2, -1))

    def _mixed(self, y: Tensor) -> Tensor:
        """(B, H, T) -> (B, T, H), whose memory stays frame after frame: what comes next wants it so."""
        mixed = F.conv1d(F.gelu(y), self.mix.weight.unsqueeze(-1), self.mix.bias)
        return F.glu(mixed, 1).transpose(1, 2)

    def _a(self) -> Tensor:
        """The diagonal of the continuous system (H, N/2); its real part is negative."""
        return torch.complex(-torch.exp(self.log_a_real), self.a_imag)


class S4(_StateSpace):
    """State space with a diagonal plus low-rank matrix, ``a = diag(lambda) - p p*``.

    Parameters
    ----------
    size : width H of input and output, a state space each
    state_size : states N a channel, even
    delta_min, delta_max : range of the steps at the start, drawn log-uniformly; a channel remembers about 1 / delta
        frames

    Examples
    --------
    >>> S4(8)(torch.zeros(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, size: int, state_size: int = 64, delta_min: float = 1e-3, delta_max: float = 0.1):
        super().__init__(size, state_size, delta_min, delta_max)
        frequency, p, b = (v.expand(self.size, -1).clone() for v in hippo_legs(self.state_size))
        dtype = self.D.dtype
        self.a_imag = nn.Parameter(frequency.to(dtype))
        self.P = nn.Parameter(torch.view_as_real(p).to(dtype))
        self.B = nn.Parameter(torch.view_as_real(b).to(dtype))

    def discrete(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the bilinear rule ``A = (1 - delta a / 2)^-1 (1 + delta a / 2)``: the inverse, by Woodbury, and B."""
        delta = torch.exp(self.log_delta)[:, None]  # (H, 1)
        p, b = torch.view_as_complex(self.P), torch.view_as_complex(self.B)
        diagonal = 1 / (1 - delta / 2 * self._a())
        column = delta * diagonal * p / (1 + delta * _inner(p, diagonal * p))
        return diagonal, column, p, delta * _solve(diagonal, column, p, b)

    def advance(self, discrete: Any, state: Tensor, x: Tensor) -> Tensor:
        diagonal, column, p, b = discrete
        return 2 * _solve(diagonal, column, p, state) - state + b * x.unsqueeze(-1)

    def kernel(self, n: int) -> Tensor:
        transition, b = self._transition()
        C = torch.view_as_complex(self.C)
        tracing = torch.compiler.is_compiling()
        q = TRACED_Q if tracing else _near_root(n)
        n_steps = n // q + 2  # two at least: a traced program would not go from one to more
        n_bits = TRACED_BITS if tracing else (n_steps - 1).bit_length()
        within, step = power_sequence(_real(b), transition.mT, q, (q - 1).bit_length())  # (H, q, N)
        between, _ = power_sequence(2 * _dual(C), step.mT, n_steps, n_bits)  # (H, n_steps, N)
        return _first((between @ within.mT).flatten(1), n)

    def transfer(self, n: int, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        transition, b = self._transition()
        rows, _ = power_sequence(2 * _dual(torch.view_as_complex(self.C)), transition, n + 1, n.bit_length())
        columns, _ = power_sequence(_real(b), transition.mT, n, (n - 1).bit_length())
        carried, matrix = _real(state).transpose(0, 1), transition.mT  # (H, B, N), (H, N, N)
        for bit in range(n.bit_length()):
            carried = carried @ matrix if n >> bit & 1 else carried
            matrix = matrix @ matrix
        return rows[:, 1:], columns, torch.complex(*carried.transpose(0, 1).chunk(2, -1))

    def _transition(self) -> tuple[Tensor, Tensor]:
        """A as a matrix of real numbers (H, N, N), and B (H, N/2)."""
        diagonal, column, p, b = self.discrete()
        eye = torch.eye(b.shape[-1], dtype=b.dtype, device=b.device)
        basis = torch.cat([eye, 1j * eye]).unsqueeze(1)  # (N, 1, N/2): a real basis of the states
        columns = _real(2 * _solve(diagonal, column, p, basis) - basis)  # (N, H, N)
        return columns.permute(1, 2, 0), b


class S4D(_StateSpace):
    """State space with a diagonal matrix, started as ``a_n = -1/2 + i pi n`` (S4D-Lin).

    Parameters
    ----------
    size, state_size, delta_min, delta_max : as for `S4`

    Examples
    --------
    >>> S4D(8)(torch.zeros(2, 100, 8)).shape
    torch.Size([2, 100, 8])
    """

    def __init__(self, size: int, state_size: int = 64, delta_min: float = 1e-3, delta_max: float = 0.1):
        super().__init__(size, state_size, delta_min, delta_max)
        frequency = math.pi * torch.arange(self.state_size // 2, dtype=self.D.dtype)
        self.a_imag = nn.Parameter(frequency.repeat(self.size, 1))

    def discrete(self) -> tuple[Tensor, Tensor]:
        """``A = exp(delta a)`` as its logarithm, and ``B = (A - 1) / a``, b being 1 (C has its part)."""
        a = self._a()
        log_a = torch.exp(self.log_delta)[:, None] * a
        return log_a, (torch.exp(log_a) - 1) / a

    def advance(self, discrete: Any, state: Tensor, x: Tensor) -> Tensor:
        log_a, b = discrete
        return torch.exp(log_a) * state + b * x.unsqueeze(-1)

    def kernel(self, n: int) -> Tensor:
        log_a, b = self.discrete()
        q = TRACED_Q if torch.compiler.is_compiling() else _near_root(n)
        fine = torch.arange(q, device=b.device)
        coarse = q * torch.arange(n // q + 2, device=b.device)  # two at least, for tracing
        within = torch.exp(log_a.unsqueeze(1) * fine[:, None])  # (H, q, N/2)
        between = 2 * torch.view_as_complex(self.C) * b
        between = between.unsqueeze(1) * torch.exp(log_a.unsqueeze(1) * coarse[:, None])  # (H, n // q + 2, N/2)
        return _first((_dual(between) @ _real(within).mT).flatten(1), n)

    def transfer(self, n: int, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_a, b = self.discrete()
        powers = torch.exp(log_a.unsqueeze(1) * torch.arange(n + 1, device=b.device)[:, None])  # (H, n + 1, N/2)
        rows = 2 * torch.view_as_complex(self.C).unsqueeze(1) * powers[:, 1:]
        return _dual(rows), _real(b.unsqueeze(1) * powers[:, :n]), powers[:, n] * state


def fft_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Return the causal convolution of each channel of x (B, H, T) with its own kernel (H, T).

    Parameters
    ----------
    x : (B, H, T)
    kernel : (H, T), lag 0 first
    """
    if torch.compiler.is_compiling() or native.transformed():
        return _fft_convolution(x, kernel)
    return _FFTConvolution.apply(x, kernel)


def _fft_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    n_frames = x.shape[-1]
    n = 2 * n_frames if torch.compiler.is_compiling() else smooth_length(2 * n_frames - 1)
    return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(kernel, n), n)[..., :n_frames]


class _FFTConvolution(torch.autograd.Function):
    """`_fft_convolution`, whose gradients are correlations of real signals too; torch's own go through complex ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        n_frames = x.shape[-1]
        n = smooth_length(2 * n_frames - 1)
        of_x, of_kernel = torch.fft.rfft(x, n), torch.fft.rfft(kernel, n)
        ctx.save_for_backward(x, kernel, of_kernel)
        return torch.fft.irfft(of_x.mul_(of_kernel), n)[..., :n_frames]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, of_kernel = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return tuple(native.gradients(_fft_convolution, (x, kernel), ctx.needs_input_grad, grad))
        n_frames = x.shape[-1]
        n = smooth_length(2 * n_frames - 1)
        of_grad, dx, d_kernel = torch.fft.rfft(grad, n), None, None
        if ctx.needs_input_grad[1]:
            products = torch.fft.rfft(x, n).conj_physical_().mul_(of_grad).sum(0)
            d_kernel = torch.fft.irfft(products, n)[..., :n_frames]
        if ctx.needs_input_grad[0]:
            dx = torch.fft.irfft(of_grad.mul_(of_kernel.conj()), n)[..., :n_frames]
        return dx, d_kernel


def hippo_legs(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the HiPPO-LegS matrix as ``V (diag(-1/2 + i w) - p p*) V*``: w (n/2,), p and b = V* B (n/2,), complex128.

    Of each conjugate pair the one with w > 0.
    """
    i = torch.arange(n, dtype=torch.float64)
    root = torch.sqrt(2 * i + 1)
    a = -torch.tril(torch.outer(root, root)) + torch.diag(i)
    p = root / math.sqrt(2)
    # a + p p' is -1/2 plus a skew-symmetric matrix, and -i times that is Hermitian
    w, v = torch.linalg.eigh(-1j * (a + torch.outer(p, p) + torch.eye(n) / 2))
    w, v = w[n // 2 :], v[:, n // 2 :]
    return w, v.mH @ p.to(v.dtype), v.mH @ root.to(v.dtype)


def power_sequence(row: Tensor, matrix: Tensor, n: int, n_bits: int) -> tuple[Tensor, Tensor]:
    """Return the rows ``row matrix^k``, k < n, (H, n, N), and ``matrix^(2^n_bits)``.

    Parameters
    ----------
    row, matrix : (H, N) and (H, N, N)
    n_bits : of n - 1; the k-th row has been multiplied by ``matrix^(2^j)`` for each bit j of k
    """
    k = torch.arange(n, device=row.device)[:, None]
    rows = row.unsqueeze(1).expand(-1, n, -1)
    for j in range(n_bits):
        rows = torch.where((k >> j) & 1 == 1, rows @ matrix, rows)
        matrix = matrix @ matrix
    return rows, matrix


@functools.lru_cache(maxsize=256)
def smooth_length(n: int) -> int:
    """Return the least ``2^a 3^b 5^c`` that is at least n, a length of which the FFT is fast."""
    best = 1 << max(0, n - 1).bit_length()
    for five in range(14):
        for three in range(20):
            odd = 5**five * 3**three
            if odd < best:
                best = min(best, odd << max(0, -(-n // odd) - 1).bit_length())
    return best


def _near_root(n: int) -> int:
    """The power of two nearest to the root of n."""
    return 1 << max(1, round(math.log2(n) / 2))


def _first(x: Tensor, n: int) -> Tensor:
    """The first n values (H, n) of x (H, >= n)."""
    if torch.compiler.is_compiling():  # of a symbolic n a slice asks whether x is long enough, which cannot be shown
        return x[:, torch.arange(n, device=x.device)]
    return x[:, :n]


def _real(z: Tensor) -> Tensor:
    """(..., N/2) complex -> (..., N)."""
    return torch.cat([z.real, z.imag], -1)


def _dual(z: Tensor) -> Tensor:
    """The row (..., N) whose product with `_real` of a state s is ``Re(z s)``."""
    return torch.cat([z.real, -z.imag], -1)


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """Real inner product of the states x and y, (..., 1)."""
    return (x.real * y.real + x.imag * y.imag).sum(-1, keepdim=True)


def _solve(diagonal: Tensor, column: Tensor, p: Tensor, s: Tensor) -> Tensor:
    """``(1 - delta a / 2)^-1 s``."""
    s = diagonal * s
    return s - column * _inner(p, s)
