"""What `strflab fit` leaves in its folder: the model, its record, scores and history as tables, a figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strflab import metrics, models, results
from strflab.data import NeuralDataset
from strflab.papers import population
from strflab.reverse_correlation import lags_from_ms

SHOWN = 8  # neurons in the figure, the best
SHOWN_MS = 200.0  # of a network's gradient


def standardized(ds: NeuralDataset) -> tuple[NeuralDataset, dict[str, float]]:
    """Return the data with sounds of mean 0 and variance 1 over all clips, and what was taken away and divided by.

    Sounds that are so already, as those of `ns1`, stay as they are.
    """
    mean, sd = population.scale(ds.stimuli)
    if abs(mean) < 1e-3 and abs(sd - 1) < 1e-3:
        return ds, {"mean": 0.0, "sd": 1.0}
    scaled = ds.with_stimuli(population.standardized(ds.stimuli))
    return scaled, {"mean": float(mean), "sd": float(sd)}


def write(
    folder: Path, kept: results.StoredFit, test: NeuralDataset, columns: Mapping[str, Iterable[float]]
) -> tuple[list[str], dict[str, Any]]:
    """Write everything; return the files' names, and each score's summary over neurons.

    Parameters
    ----------
    folder : made if it is not there
    kept : the fit; the summaries become part of its record
    test : the clips that it is scored on
    columns : (N,) more columns of scores.csv, by name
    """
    rates = _predict(kept, test)
    plain = metrics.corrcoef(rates, [r.numpy() for r in test.psth])
    summary = {}
    for name, scores in (("CCnorm", kept.scores), ("CC", plain)):
        if np.isfinite(scores).any():
            found = metrics.summarize(scores)
            summary[name] = found._asdict() | {"text": str(found)}
    kept.record["summary"] = summary
    results.save_fit(kept, folder)
    rows = [
        {"neuron": n, "id": record.get("id", n), "ccnorm": kept.scores[n], "cc": plain[n], "ccmax": test.ccmax[n]}
        | {name: values[n] for name, values in ((key, list(column)) for key, column in columns.items())}
        for n, record in enumerate(test.neurons)
    ]
    _write_csv(folder / "scores.csv", rows)
    written = ["config.json", "model.safetensors", "fit.json", "scores.csv"]
    if kept.history:
        _write_csv(folder / "history.csv", kept.history)
        written.append("history.csv")
    name = next(iter(summary), "CC")
    _draw(folder / "receptive_fields.png", kept.model, test, plain if name == "CC" else kept.scores, name)
    return [*written, "receptive_fields.png"], summary


@torch.no_grad()
def _predict(kept: results.StoredFit, ds: NeuralDataset) -> list[np.ndarray]:
    """The rates (N, T_k) of each clip."""
    like = next(kept.model.parameters())
    output = torch.exp if kept.record["recipe"].get("loss") == "poisson_log" else lambda y: y
    return [output(kept.model(x[None, None].to(like))[0, :, 0]).double().cpu().numpy() for x in ds.stimuli]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table; NaN is an empty cell."""
    with open(path, "w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})


def _gradients(model: models.Model, n_lags: int) -> torch.Tensor:
    """Gradients (N, C, F, n_lags) around the mean sound, heard for so long that a recurrent model's start is over."""
    return model.STRF_gradmap(torch.zeros(model.in_channels, model.n_frequency_bands, 5 * n_lags), n_lags)


def _draw(path: Path, model: models.Model, ds: NeuralDataset, scores: np.ndarray, score: str) -> None:
    """Draw the receptive fields of the neurons that are predicted best: filters, or gradients around the mean sound."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from strflab import plotting

    model = model.cpu()
    linear = isinstance(model, models.Linear)
    fields = model.STRF_weight() if linear else _gradients(model, lags_from_ms(SHOWN_MS, ds.dt_ms))
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    shown, titles = [], []
    for n in order[:SHOWN].tolist():
        words = f"neuron {n}" + (f", {scores[n]:.2f}" if np.isfinite(scores[n]) else "")
        for channel, field in enumerate(fields[n].detach().double().numpy()):  # (F, T)
            shown.append(field)
            titles.append(words if fields.shape[1] == 1 else f"{words}, channel {channel}")
    rising = len(ds.frequencies) > 1 and bool((np.diff(ds.frequencies) > 0).all())
    with mpl.rc_context():
        plotting.style()
        # neurons of different rates: a scale each
        frequencies = ds.frequencies if rising else None
        figure = plotting.strf_grid(np.stack(shown), ds.dt_ms, frequencies, titles, shared_scale=False)
        what = "filters" if linear else "gradients around the mean sound"
        figure.suptitle(f"The {what}, a colour scale each; {score} on the test clips", fontsize=9)
        figure.savefig(path, dpi=160)
        plt.close(figure)
