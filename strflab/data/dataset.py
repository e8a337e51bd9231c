"""NeuralDataset: clips of sound, what a population of neurons answered to them, and what is known of both.

Stimuli are spectrograms (F, T_k), one a clip, of any length; responses are spike counts (N, R_k, T_k), repeats
first kept apart. A repeat, neuron or frame that was not recorded is NaN in the response; a stimulus is never NaN.
Everything is checked when the set is made, so that nothing downstream has to.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strflab.validation import number

Record = dict[str, Any]
Selection = int | slice | Sequence[int] | Sequence[bool] | np.ndarray | Tensor | Callable[[Record], bool]


class Batch(NamedTuple):
    """Clips of a dataset padded on the right to one length.

    Parameters
    ----------
    stimuli : (B, 1, F, T), zero where padded
    responses : (B, N, R, T), NaN where padded or missing
    lengths : (B,) frames of each clip
    """

    stimuli: Tensor  # (B, 1, F, T), zeros in the padding
    responses: Tensor  # (B, N, R, T), NaN in the padding
    lengths: Tensor  # (B,), frames before the padding


class NeuralDataset:
    """Hold the stimuli and responses of one recording, and their summaries, each computed once.

    Parameters
    ----------
    stimuli : sequence of (F, T_k)
        Spectrograms, arrays or tensors; finite. Kept as float32 tensors (not copied if they are).
    responses : sequence of (N, R_k, T_k)
        Spike counts (or any signal) per bin, one array a clip; NaN where nothing was recorded.
    dt_ms : float
        Frame length, ms.
    frequencies : (F,)
        Centre frequency of each band, Hz.
    neurons, clips : sequence of dict, optional
        Tables: one record a neuron, one a clip. By default {"id": i}.
    name, licence, citation, description : str
        Where the set comes from and on what terms.
    waveforms : sequence of (samples,), optional
        The sounds themselves, one channel a clip, with their `sample_rate` in Hz.
    truth : optional
        What made the responses, for simulated sets: an object with `select(neurons, clips)`.

    Raises
    ------
    ValueError
        If shapes disagree, a stimulus is not finite, a response is infinite, `dt_ms` is not positive, or a table
        has the wrong length: the message names the argument and the clip.

    >>> ds = NeuralDataset([np.zeros((2, 50))], [np.ones((3, 4, 50))], dt_ms=5, frequencies=[500, 1000])
    >>> ds.n_neurons, ds.n_bands, ds.psth[0].shape
    (3, 2, torch.Size([3, 50]))
    """

    def __init__(
        self,
        stimuli: Iterable[Any],
        responses: Iterable[Any],
        dt_ms: float,
        frequencies: Any,
        *,
        neurons: Sequence[Record] | None = None,
        clips: Sequence[Record] | None = None,
        name: str = "",
        licence: str = "",
        citation: str = "",
        description: str = "",
        waveforms: Iterable[Any] | None = None,
        sample_rate: float | None = None,
        truth: Any = None,
    ) -> None:
        self.stimuli = [_tensor(x, f"stimuli[{k}]", 2) for k, x in enumerate(stimuli)]  # (F, T_k)
        self.responses = [_tensor(y, f"responses[{k}]", 3) for k, y in enumerate(responses)]  # (N, R_k, T_k)
        self.dt_ms = number("dt_ms", dt_ms, above=0)
        self.frequencies = np.array(frequencies, dtype=np.float64)  # (F,), Hz
        if len(self.stimuli) != len(self.responses):
            raise ValueError(
                f"stimuli and responses must have one entry a clip: {len(self.stimuli)} stimuli, "
                f"{len(self.responses)} responses"
            )
        self.neurons = _table("neurons", neurons, len(self.responses[0]) if self.responses else 0)
        self.clips = _table("clips", clips, self.n_clips)
        if len(self.clips) != self.n_clips:
            raise ValueError(f"clips: {len(self.clips)} records for {self.n_clips} clips")
        self._check_arrays()
        self.name, self.licence, self.citation, self.description = name, licence, citation, description
        self.waveforms: list[Tensor] | None = None
        self.sample_rate: float | None = None
        if (waveforms is None) != (sample_rate is None):
            raise ValueError("waveforms and sample_rate go together: give both or neither")
        if waveforms is not None and sample_rate is not None:
            self.waveforms = [_tensor(w, f"waveforms[{k}]", 1) for k, w in enumerate(waveforms)]
            self.sample_rate = number("sample_rate", sample_rate, above=0)
            if len(self.waveforms) != self.n_clips:
                raise ValueError(f"waveforms: {len(self.waveforms)} sounds for {self.n_clips} clips")
            for k, sound in enumerate(self.waveforms):
                _check_finite(f"waveforms[{k}]", sound)
        self.truth = truth

    @property
    def n_neurons(self) -> int:
        """Number of neurons, N."""
        return len(self.neurons)

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.stimuli)

    @property
    def n_bands(self) -> int:
        """Number of frequency bands, F."""
        return len(self.frequencies)

    @property
    def n_frames(self) -> list[int]:
        """Frames of each clip, T_k."""
        return [x.shape[1] for x in self.stimuli]

    def __len__(self) -> int:
        return self.n_clips

    @cached_property
    def repeat_counts(self) -> list[Tensor]:
        """Return the repeats recorded in each frame, (N, T_k) a clip."""
        return [(~y.isnan()).sum(1, dtype=torch.float32) for y in self.responses]

    @cached_property
    def psth(self) -> list[Tensor]:
        """Return the mean over the repeats recorded, (N, T_k) a clip, per bin; NaN where there is none."""
        return [y.nansum(1) / n for y, n in zip(self.responses, self.repeat_counts)]  # 0 / 0 is NaN

    @cached_property
    def signal_power(self) -> np.ndarray:
        """Return the stimulus-locked variance of each neuron, (N,), over the concatenated clips."""
        from strflab import metrics

        return self._summary(metrics.signal_power)

    @cached_property
    def noise_power(self) -> np.ndarray:
        """Return the trial-to-trial variance of each neuron, (N,)."""
        from strflab import metrics

        return self._summary(metrics.noise_power)

    @cached_property
    def ccmax(self) -> np.ndarray:
        """Return the best correlation that any model can have with the PSTH of each neuron, (N,)."""
        from strflab import metrics

        return self._summary(metrics.ccmax)

    def select(self, neurons: Selection | None = None, clips: Selection | None = None) -> NeuralDataset:
        """Return a new dataset of some of the neurons and clips, in the order asked for.

        Parameters
        ----------
        neurons, clips : int, slice, integer indices, boolean mask or function of a record, optional
            By default all of them. What matches nothing gives an empty set.

        Raises
        ------
        IndexError
            If an index lies outside the set.
        ValueError
            If a mask has another length, or the selection is none of these.

        >>> ds = NeuralDataset([np.zeros((2, 9))] * 3, [np.ones((4, 5, 9))] * 3, 5, [500, 1000])
        >>> ds.select(neurons=lambda n: n["id"] > 1, clips=slice(0, 1)).responses[0].shape
        torch.Size([2, 5, 9])
        """
        rows = _indices("neurons", neurons, self.neurons)
        columns = _indices("clips", clips, self.clips)
        every = rows == list(range(self.n_neurons))
        chosen = copy.copy(self)  # what was checked once needs no second look
        for name, value in vars(NeuralDataset).items():
            if isinstance(value, cached_property):
                vars(chosen).pop(name, None)
        chosen.stimuli = [self.stimuli[k] for k in columns]
        chosen.responses = [self.responses[k] if every else self.responses[k][rows] for k in columns]
        chosen.frequencies = self.frequencies.copy()
        chosen.neurons = [self.neurons[n].copy() for n in rows]
        chosen.clips = [self.clips[k].copy() for k in columns]
        if self.waveforms is not None:
            chosen.waveforms = [self.waveforms[k] for k in columns]
        if self.truth is not None:
            chosen.truth = self.truth.select(rows, columns)
        return chosen

    def with_stimuli(self, stimuli: Iterable[Any], frequencies: Any = None) -> NeuralDataset:
        """Return a new dataset with the same responses to the same sounds, shown in another way: on another scale, say.

        It has neither the waveforms nor the truth of this one.

        Parameters
        ----------
        stimuli : (F, T_k) spectrograms, one a clip, as long as before
        frequencies : (F,) centre of each band, Hz; None: as before

        Raises
        ------
        ValueError
            If there are more or fewer, they are not finite, or their shapes do not fit.

        >>> ds = NeuralDataset([np.ones((2, 9))], [np.ones((4, 5, 9))], 5, [500, 1000])
        >>> ds.with_stimuli([x - 1 for x in ds.stimuli]).stimuli[0].max()
        tensor(0.)
        """
        return NeuralDataset(
            stimuli,
            self.responses,
            self.dt_ms,
            self.frequencies if frequencies is None else frequencies,
            neurons=self.neurons,
            clips=self.clips,
            name=self.name,
            licence=self.licence,
            citation=self.citation,
            description=self.description,
        )

    def save(self, path: str | Path) -> None:
        """Write the set to one file, from which `strflab.data.read` makes it again; an older file is replaced.

        The file is in the safetensors format, with everything but what can be computed again. Use it to keep a
        recording that took long to read. With the suffix .npz it holds plain arrays, for other programs, and of the
        tables the ids alone.

        Parameters
        ----------
        path : of the file

        Raises
        ------
        ValueError
            If a table holds anything but numbers and text, or the set is simulated: its truth is not a table.
        """
        from strflab.data import arrays, parsed

        path = Path(path)
        if path.suffix == ".npz":
            arrays.write_arrays(path, self)
        else:
            parsed.save(self, path)

    def batch(self) -> Batch:
        """Return all clips padded to the longest: stimuli (B, 1, F, T), responses (B, N, R, T), lengths (B,)."""
        n_repeats = max((y.shape[1] for y in self.responses), default=0)
        longest = max(self.n_frames, default=0)
        stimuli = torch.zeros(self.n_clips, 1, self.n_bands, longest)
        responses = torch.full((self.n_clips, self.n_neurons, n_repeats, longest), torch.nan)
        for k, (x, y) in enumerate(zip(self.stimuli, self.responses)):
            stimuli[k, 0, :, : x.shape[1]] = x
            responses[k, :, : y.shape[1], : y.shape[2]] = y
        return Batch(stimuli, responses, torch.tensor(self.n_frames, dtype=torch.int64))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the stimuli, responses, frame length and frequencies, in hexadecimal.

        Sets with the same numbers have the same fingerprint on every machine, whatever their names.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"strflab dataset 1, dt {self.dt_ms!r} ms".encode())
        digest.update(self.frequencies.astype("<f8").tobytes())
        for x, y in zip(self.stimuli, self.responses):
            digest.update(repr((tuple(x.shape), tuple(y.shape))).encode())
            # one bit pattern for NaN, one for zero
            canonical = torch.where(y.isnan(), torch.nan, y + 0.0)
            for part in (x + 0.0, canonical):
                digest.update(part.numpy().astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        seconds = [t * self.dt_ms / 1000 for t in self.n_frames]
        repeats = [y.shape[1] for y in self.responses]
        lines = [
            f"NeuralDataset {self.name}".rstrip(),
            f"  neurons     {self.n_neurons}",
            f"  clips       {self.n_clips}, {_span(seconds, '.3g')} s each, {sum(seconds):.1f} s in all",
            f"  repeats     {_span(repeats, 'd')}",
            f"  stimulus    {self.n_bands} bands" + _range_of(self.frequencies) + f", frames of {self.dt_ms:g} ms",
        ]
        if self.waveforms is not None:
            lines.append(f"  waveforms   {self.sample_rate:g} Hz")
        if self.truth is not None:
            lines.append("  truth       known: .truth")
        for label in ("description", "citation", "licence"):
            if text := getattr(self, label):
                lines.append(f"  {label:<11} {text}")
        return "\n".join(lines)

    def _summary(self, score: Callable[..., Any]) -> np.ndarray:
        if not self.n_neurons or not self.n_clips:
            return np.full(self.n_neurons, np.nan)
        return np.asarray(score(self.responses), dtype=np.float64)

    def _check_arrays(self) -> None:
        frequencies = self.frequencies
        if frequencies.ndim != 1 or not np.isfinite(frequencies).all() or (frequencies < 0).any():
            raise ValueError(f"frequencies must be a list of finite values in Hz, got {frequencies}")
        for k, (x, y) in enumerate(zip(self.stimuli, self.responses)):
            if x.shape[0] != self.n_bands:
                raise ValueError(
                    f"frequencies: {self.n_bands} values, but stimuli[{k}] has {x.shape[0]} bands {tuple(x.shape)}"
                )
            if y.shape[0] != self.n_neurons:
                raise ValueError(
                    f"responses[{k}] has {y.shape[0]} neurons, others (or the neurons table) have {self.n_neurons}"
                )
            if x.shape[1] != y.shape[2]:
                raise ValueError(f"clip {k}: stimuli has {x.shape[1]} frames, responses has {y.shape[2]}")
            if x.shape[1] == 0:
                raise ValueError(f"stimuli[{k}] has no frames")
            _check_finite(f"stimuli[{k}]", x)
            if y.isinf().any():
                raise ValueError(f"responses[{k}] must be finite, or NaN where nothing was recorded: it is infinite")


def _tensor(values: Any, name: str, n_dims: int) -> Tensor:
    """Return a float32 tensor on the CPU with `n_dims` dimensions."""
    try:
        if isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()  # a tensor cannot share read-only memory
        tensor = torch.as_tensor(values).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a numeric array: {error}") from None
    if tensor.ndim != n_dims:
        wanted = {1: "(samples,)", 2: "(F, T)", 3: "(N, R, T)"}[n_dims]
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(tensor.shape)}")
    return tensor


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite: it holds NaN or infinity")


def _table(name: str, records: Sequence[Record] | None, default_length: int) -> list[Record]:
    """Return the records, or numbered ones."""
    table = [{"id": i} for i in range(default_length)] if records is None else list(records)
    if not all(isinstance(record, dict) for record in table):
        raise ValueError(f"{name} must be a list of dicts, one a row")
    return table


def _indices(name: str, selection: Selection | None, table: list[Record]) -> list[int]:
    """Return the rows of `table` that `selection` means, as non-negative integers."""
    size = len(table)
    if selection is None:
        return list(range(size))
    if callable(selection):
        return [i for i, record in enumerate(table) if selection(record)]
    if isinstance(selection, slice):
        return list(range(size))[selection]
    array = np.atleast_1d(np.asarray(selection))
    if array.size == 0:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(f"{name}={selection!r}: must be indices, a boolean mask, a slice or a function of a record")
    if array.dtype.kind == "b":
        if len(array) != size:
            raise ValueError(f"{name}: the mask has {len(array)} entries for {size} {name}")
        return np.flatnonzero(array).tolist()
    wrong = array[(array < -size) | (array >= size)]
    if wrong.size:
        raise IndexError(f"{name}: index {wrong[0]} is out of range for {size} {name}")
    return (array.astype(np.int64) % size).tolist()


def _span(values: Sequence[float], form: str) -> str:
    if not values:
        return "0"
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _range_of(frequencies: np.ndarray) -> str:
    return f", {frequencies.min():.0f} to {frequencies.max():.0f} Hz" if len(frequencies) else ""
