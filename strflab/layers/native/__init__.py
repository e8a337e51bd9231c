"""Compiled kernels for a CPU: the loops that torch can only run one small operation after another.

The C beside this file is compiled when it is first needed, by the machine's own compiler (`cc`, a second or two), and
kept in the cache under a key made of the source, the compiler's options and the processor. Where there is no compiler,
where STRFLAB_NATIVE=0, and for all that is not float32 on a CPU, torch does the same work; every kernel has that path
beside it as its reference, and the tests compare them.

    if native.usable(x, a):
        native.run("decay_forward", x, a, initial, y, T, H, over=rows)
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from strflab.cache import cache_root

HERE = Path(__file__).parent
SOURCES = ("recurrent.c", "scan.c", "frames.c", "conv.c")
OPTIONS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")
TUNED = ("-march=native",)  # which some compilers know under another name or not at all

PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)  # a subclass may have no memory of its own
enabled = os.environ.get("STRFLAB_NATIVE", "1") != "0"


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can do this work: float32 on a CPU, no transform or tracing around it, and a compiler.

    Parameters
    ----------
    tensors : what the work is about
    """
    return (
        enabled
        and not torch.compiler.is_compiling()
        and all(x.dtype == torch.float32 and x.is_cpu and type(x) in PLAIN for x in tensors)
        and not transformed()
        and not observed()
        and library() is not None
    )


def transformed() -> bool:
    """Whether a torch.func transform (vmap, grad, jacrev) or forward-mode differentiation is at work."""
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def observed() -> bool:
    """Whether each operation is recorded (torch.jit.trace) or handled by a mode (a FLOP counter, fake tensors)."""
    return torch._C._get_tracing_state() is not None or _get_current_dispatch_mode() is not None


def run(kernel: str, *arguments: Tensor | int | float, over: int) -> None:
    """Run a kernel on contiguous tensors and sizes, in as many threads as torch may use.

    Parameters
    ----------
    kernel : its name in C
    arguments : tensors, integers and float32 numbers; all but its last two, the part of `over` that a call does
    over : independent pieces of work, in equal parts for the threads

    Raises
    ------
    MemoryError : the kernel found no memory for its own arrays
    """
    function = getattr(library(), kernel)
    values = [_value(a) for a in arguments]
    n = max(1, min(torch.get_num_threads(), over))
    edges = [over * i // n for i in range(n + 1)]
    parts = [(ctypes.c_long(a), ctypes.c_long(b)) for a, b in itertools.pairwise(edges)]
    if n == 1:
        failed = [function(*values, *parts[0])]
    else:  # ctypes lets go of the interpreter's lock
        failed = list(_pool(n).map(lambda part: function(*values, *part), parts))
    if any(failed):
        raise MemoryError(f"no memory for the arrays of {kernel}")


def _value(argument: Tensor | int | float) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_float(argument)


def gradients(
    plain: Callable[..., Tensor], inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """Return the gradients of ``plain(*inputs)``, which can be differentiated again, for a backward pass of a kernel.

    Parameters
    ----------
    plain : the kernel's work in torch
    inputs : its arguments
    needed : of which of them the gradient is wanted
    grad : gradient of the result
    """
    wanted = [x for x, need in zip(inputs, needed) if need]
    found = iter(torch.autograd.grad(plain(*inputs), wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform == "win32":
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        warnings.warn(
            f"the compiled kernels are not used, torch does their work: {compiler} failed: {str(detail).strip()[:500]}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _compiled(compiler: str) -> Path:
    """The library's file, made if it is not in the cache."""
    source = b"".join((HERE / name).read_bytes() for name in ("vector.h", *SOURCES))
    key = hashlib.sha256(source + repr((compiler, TUNED, OPTIONS, _processor())).encode()).hexdigest()[:16]
    path = cache_root() / "native" / f"kernels-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            command = [compiler, *OPTIONS, *(str(HERE / name) for name in SOURCES), "-o", str(made)]
            tuned = [compiler, *TUNED, *command[1:]]
            if subprocess.run(tuned, capture_output=True).returncode:
                subprocess.run(command, capture_output=True, text=True, check=True)
            os.replace(made, path)  # another process may have made the same meanwhile
    return path


def _processor() -> str:
    """What tells processors apart that run different instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


@functools.cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="strflab")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads
