"""Figures as a physiologist draws them: ms and kHz, colour scales centred on zero, error bands, nothing else.

A function draws into the axes that it is given and returns what it drew, or makes a figure and returns it.
`style()` sets the type and line widths of the book. Lag grows away from the present: 0 is at the left.
"""

from strflab.plotting.axes import (
    DATA,
    DIVERGING,
    MODEL,
    REFERENCE,
    SEQUENTIAL,
    band_edges,
    frequency_axis,
    style,
    symmetric_colorbar,
)
from strflab.plotting.fields import dynamic_strfs, gradient_energy, hidden_strfs, modulation_transfer, strf, strf_grid
from strflab.plotting.growth import power_curves, power_grid
from strflab.plotting.scores import paired_scores, score_rows
from strflab.plotting.sounds import dream, raster, rate, spectrogram, trials
from strflab.plotting.surfaces import response_surface

__all__ = [
    "DATA",
    "DIVERGING",
    "MODEL",
    "REFERENCE",
    "SEQUENTIAL",
    "band_edges",
    "dream",
    "dynamic_strfs",
    "frequency_axis",
    "gradient_energy",
    "hidden_strfs",
    "modulation_transfer",
    "paired_scores",
    "power_curves",
    "power_grid",
    "raster",
    "rate",
    "response_surface",
    "score_rows",
    "spectrogram",
    "strf",
    "strf_grid",
    "style",
    "symmetric_colorbar",
    "trials",
]
