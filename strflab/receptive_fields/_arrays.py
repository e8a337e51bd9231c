"""What the measures of receptive fields share: checked arrays, and ratios that are NaN where there is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike


def as_fields(field: Any) -> np.ndarray:
    """Return fields (..., F, T) in float64, checked."""
    w = np.asarray(field.detach().cpu() if isinstance(field, torch.Tensor) else field, dtype=np.float64)
    if w.ndim < 2 or 0 in w.shape[-2:]:
        raise ValueError(f"field of shape {w.shape}: must be (..., F, T)")
    if not np.isfinite(w).all():
        raise ValueError("field: must be finite everywhere")
    return w


def as_frequencies(frequencies: ArrayLike, n_bands: int) -> np.ndarray:
    """Return the centre frequencies (F,), Hz, checked."""
    f = np.asarray(frequencies, dtype=np.float64)
    if f.shape != (n_bands,) or not np.isfinite(f).all() or (f <= 0).any() or (np.diff(f) <= 0).any():
        raise ValueError(f"frequencies={frequencies!r}: must be {n_bands} numbers above 0 that increase, Hz")
    return f


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=b != 0)
