"""The second analysis of chapter 3: does it matter by which cochleagram a model hears?

Rahman, Willmore, King & Harper 2020, doi 10.1073/pnas.1922033117: a few compressions of a filtered short-time Fourier
transform (`strflab.layers.Rahman2020Cochleagram`), each heard by LN and by the network receptive field of Harper et al.
2016, doi 10.1371/journal.pcbi.1005113, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from strflab.data import NeuralDataset, ns1
from strflab.layers import Rahman2020Cochleagram
from strflab.papers import ns1_baseline, population, rahman2019
from strflab.validation import choice

KINDS = ("log", "log1plus", "power", "hill", "multithreshold")
PUBLISHED = "published"  # the cochleagram that came with the recording
LN_SPAN_MS = 200
NRF_SPAN_MS = 100
STRENGTH = 1e-3  # of the networks' L1 penalty, for all neurons: only the sound differs
EXAMPLE_FRAMES = 300  # of the first clip, that are kept to be drawn


def analyse(
    ds: NeuralDataset,
    *,
    device: str | torch.device = "cpu",
    kinds: Sequence[str] = KINDS,
    nrf_kinds: Sequence[str] = KINDS,
    nrf_epochs: int = rahman2019.NRF_RECIPE.epochs,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Return the scores of LN and of the network receptive field by cochleagram, `PUBLISHED` first.

    Parameters
    ----------
    ds : NS1 with its waveforms, or a set with its 20 clips that has some
    device : where to fit the networks
    kinds, nrf_kinds : compressions, of `KINDS`, that LN and the networks hear
    nrf_epochs : of each network's fit
    progress : show a bar

    Returns
    -------
    dict : `cochleagram_ln` (1 + kinds, N), `cochleagram_nrf` (1 + nrf_kinds, N); `cochleagram_kinds` and
        `cochleagram_nrf_kinds`, the places of the kinds in `KINDS`; `cochleagram_bands`, the numbers of bands of the
        kinds; `example_published` and `example_<kind>`, the start of the first clip (F, T)

    Raises
    ------
    ValueError : an unknown kind; a set without waveforms or without the 20 clips
    """
    for kind in (*kinds, *nrf_kinds):
        choice("kinds", kind, KINDS)
    sets = {PUBLISHED: ds} | {kind: heard(ds, kind) for kind in dict.fromkeys([*kinds, *nrf_kinds])}
    recipe = replace(rahman2019.NRF_RECIPE, epochs=nrf_epochs, patience=nrf_epochs)
    ln, nrf = [], []
    for kind in (PUBLISHED, *kinds):
        train, test = ns1.paper_split(sets[kind])
        ln.append(population.score(np.stack(ns1_baseline.fit(train, LN_SPAN_MS).predict(test)), test))
    for kind in (PUBLISHED, *nrf_kinds):
        train, test = ns1.paper_split(sets[kind])
        build = rahman2019.nrf_builder(train, NRF_SPAN_MS)
        nets = rahman2019.fit(build, train, recipe, [STRENGTH] * ds.n_neurons, device=device, progress=progress)
        nrf.append(population.score(rahman2019.predict(nets, test), test))
    out = {
        "cochleagram_ln": np.stack(ln),
        "cochleagram_nrf": np.stack(nrf),
        "cochleagram_kinds": np.array([KINDS.index(kind) for kind in kinds]),
        "cochleagram_nrf_kinds": np.array([KINDS.index(kind) for kind in nrf_kinds]),
        "cochleagram_bands": np.array([sets[kind].n_bands for kind in kinds]),
    }
    for kind in (PUBLISHED, *kinds):
        out[f"example_{kind}"] = sets[kind].stimuli[0][:, :EXAMPLE_FRAMES].numpy().astype(np.float32)
    return out


def heard(ds: NeuralDataset, kind: str) -> NeuralDataset:
    """Return the recording with another cochleagram of its sounds, of as many bands (33 of NS1's 34 for
    "multithreshold": eleven for each of three types of fibre).

    The window of a frame starts with its bin, as in the published cochleagram, and the values are z-scored over all
    clips, with one mean and one deviation, as a network wants them.

    Parameters
    ----------
    ds : a recording with waveforms
    kind : the compression, one of `KINDS`

    Raises
    ------
    ValueError : an unknown kind, or no waveforms
    """
    choice("kind", kind, KINDS)
    if ds.waveforms is None or ds.sample_rate is None:
        raise ValueError(f"ds={ds.name!r}: has no waveforms, of which another cochleagram could be made")
    n_bands = ds.n_bands - ds.n_bands % 3 if kind == "multithreshold" else ds.n_bands
    frontend = Rahman2020Cochleagram(n_bands, ds.sample_rate, ds.dt_ms, compression=kind)
    stimuli = []
    with torch.no_grad():
        for sound, n_frames in zip(ds.waveforms, ds.n_frames, strict=True):
            # the front-end's windows end with their frames: its frame t + 1 starts with bin t
            frames = frontend(sound[None, None])[0, 0, :, 1:]
            late = n_frames - frames.shape[-1]
            if late > 0:  # a sound that ends with its last bin
                frames = torch.cat([frames, frames[:, -1:].expand(-1, late)], 1)
            stimuli.append(frames[:, :n_frames])
    return ds.with_stimuli(population.standardized(stimuli), frontend.frequencies.numpy())
