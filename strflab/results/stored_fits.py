"""Fitted models that are kept, so that the same fit is never run twice.

A fit is stored under a key made of all that decides its outcome: the model's configuration, the fingerprints of the
data, the recipe with its seed, and the version of the fitting code. With it are kept the weights, the history, the
score of each neuron, and how it came about. What is loaded is checked: a stored model that no longer reproduces its
own scores is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strflab import fitting, metrics, models
from strflab.data import NeuralDataset
from strflab.fitting.checkpoint import VERSION
from strflab.results.folder import folder
from strflab.validation import integer

TOLERANCE = 1e-3  # between a stored score and the same score evaluated on another machine


@dataclass
class StoredFit:
    """A fitted model and its record.

    model : in evaluation mode
    scores : CCnorm of each neuron on the test clips (or the validation clips if there are none), NaN where undefined
    history : a record an epoch
    record : everything else: name, key, recipe, data, best_epoch, device, seconds, versions, commit, date
    stored : True if it was loaded, False if it was just fitted
    """

    model: models.Model
    scores: np.ndarray
    history: list[dict[str, float]]
    record: dict[str, Any]
    stored: bool


def fit(
    build: Callable[[], models.Model],
    train: NeuralDataset,
    validation: NeuralDataset | None = None,
    recipe: fitting.Recipe | None = None,
    *,
    test: NeuralDataset | None = None,
    name: str = "",
    refit: bool = False,
    keep: bool = True,
    **options: Any,
) -> StoredFit:
    """Return the stored fit of this model, these data and this recipe, or run it and store it.

    Parameters
    ----------
    build : makes the model; called with torch seeded by `recipe.seed`
    train, validation, recipe : as for `strflab.fitting.fit`
    test : clips to score the fitted model on; None: `validation`, or `train`
    name : what to call it in lists
    refit : run it even if it is stored
    keep : store it; False where only what is computed from it lasts
    **options : of `strflab.fitting.fit`: device, checkpoint, progress, callback

    Raises
    ------
    ValueError : a stored fit is damaged, or does not reproduce its own scores

    Examples
    --------
    >>> from strflab import data, results                                    # doctest: +SKIP
    >>> kept = results.fit(lambda: models.Linear(34, 9, ds.n_neurons), ds)   # doctest: +SKIP
    """
    recipe = recipe or fitting.Recipe()
    model, key = _asked(build, train, validation, recipe, test)
    scored = test or validation or train
    path = folder() / "fits" / key
    if path.is_dir() and not refit:
        kept = load_fit(key)
        again = _scores(kept.model, scored, recipe.loss)
        if not np.allclose(again, kept.scores, atol=TOLERANCE, equal_nan=True):
            worst = float(np.nanmax(np.abs(again - kept.scores)))
            raise ValueError(f"{path} does not reproduce its own scores (off by {worst:.2g}): refit=True runs it again")
        return kept
    run = fitting.fit(model, train, validation, recipe, **options)
    kept = recorded_fit(
        model,
        train,
        validation,
        scored,
        name=name,
        key=key,
        settings=recipe.to_dict(),
        history=run.history,
        best_epoch=run.best_epoch,
        device=run.device,
        seconds=run.seconds,
    )
    if keep:
        _write(path, kept)
    return kept


def fit_all(
    fits: Sequence[Mapping[str, Any]],
    *,
    n_jobs: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[StoredFit]:
    """Return many stored fits, those that are missing run over processes; what is done is kept if one fails.

    Parameters
    ----------
    fits : the arguments of one `fit` each, by name; `build` is a function of a module or a `functools.partial` of one
    n_jobs : processes on a CPU, each with its share of the threads; None: a process a thread that torch may use
    device : where to fit; on a GPU one after the other
    progress : show a bar of the fits that are done

    Examples
    --------
    >>> from functools import partial                                           # doctest: +SKIP
    >>> seeds = [fitting.Recipe(seed=s) for s in range(3)]                      # doctest: +SKIP
    >>> build = partial(models.Linear, out_neurons=ds.n_neurons)                # doctest: +SKIP
    >>> kept = fit_all([dict(build=build, train=ds, recipe=r) for r in seeds])  # doctest: +SKIP
    """
    from joblib import Parallel, delayed

    from strflab.progress import progress_bar

    waiting = [i for i, arguments in enumerate(fits) if not _is_kept(**arguments)]
    n_jobs = torch.get_num_threads() if n_jobs is None else integer("n_jobs", n_jobs)
    n_jobs = min(n_jobs, len(waiting)) if torch.device(device).type == "cpu" else 1
    apart = waiting if n_jobs > 1 else []  # what is kept is read here: a worker would be sent its data for nothing
    done: dict[int, StoredFit] = {}
    with progress_bar(total=len(fits), disable=not progress, unit="fit") as bar:
        for i in sorted(set(range(len(fits))) - set(apart)):
            done[i] = fit(**fits[i], device=device, progress=False)
            bar.update()
        threads = max(1, torch.get_num_threads() // max(1, n_jobs))
        workers = Parallel(max(1, n_jobs), backend="loky", return_as="generator", batch_size=1)
        found = workers(delayed(_fit_with)(threads, str(folder()), dict(fits[i])) for i in apart)
        for i, kept in zip(apart, found, strict=True):
            done[i] = kept
            bar.update()
    return [done[i] for i in range(len(fits))]


def _asked(
    build: Callable[[], models.Model],
    train: NeuralDataset,
    validation: NeuralDataset | None,
    recipe: fitting.Recipe,
    test: NeuralDataset | None,
) -> tuple[models.Model, str]:
    """The model that a fit starts from, and the fit's key."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = build()
    return model, fit_key(model, train, validation, test or validation or train, recipe)


def _is_kept(
    build: Callable[[], models.Model],
    train: NeuralDataset,
    validation: NeuralDataset | None = None,
    recipe: fitting.Recipe | None = None,
    *,
    test: NeuralDataset | None = None,
    refit: bool = False,
    **unused: Any,
) -> bool:
    """Whether `fit` with these arguments would read a stored fit."""
    key = _asked(build, train, validation, recipe or fitting.Recipe(), test)[1]
    return not refit and (folder() / "fits" / key).is_dir()


def _fit_with(threads: int, root: str, arguments: dict[str, Any]) -> StoredFit:
    os.environ["STRFLAB_RESULTS"] = root  # a worker may be older than this process's setting
    torch.set_num_threads(threads)
    return fit(**arguments, progress=False)


def fit_key(
    model: models.Model,
    train: NeuralDataset,
    validation: NeuralDataset | None,
    scored: NeuralDataset,
    recipe: fitting.Recipe,
) -> str:
    """Return the key under which a fit is stored: 16 hexadecimal digits.

    Parameters
    ----------
    model : as it was before the fit
    train, validation : clips of the fit
    scored : clips that the scores are of
    recipe : of the fit
    """
    decides = fitting.checkpoint.identity(model, recipe, train, validation) | {"scored": scored.fingerprint()}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def load_fit(key: str | Path) -> StoredFit:
    """Return a stored fit by its key, or by the folder (a `Path`) that `save_fit` wrote it to.

    Raises
    ------
    FileNotFoundError : there is none
    ValueError : it is damaged
    """
    path = key if isinstance(key, Path) else folder() / "fits" / key
    if not (path / "fit.json").is_file():
        raise FileNotFoundError(f"no stored fit {path.name!r} in {path.parent}")
    try:
        told = json.loads((path / "fit.json").read_text("utf8"))
        scores = np.array([np.nan if s is None else s for s in told["scores"]])
        model = models.from_pretrained(path)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, or run the fit with refit=True") from None
    return StoredFit(model, scores, told["history"], told["record"], stored=True)


def fits(where: Path | None = None) -> list[dict[str, Any]]:
    """Return the records of all stored fits, with the mean score and the size on disk, newest last.

    Parameters
    ----------
    where : a folder with a folder a fit; None: that of `fit`
    """
    rows = []
    for path in (where or folder() / "fits").glob("*/fit.json"):
        told = json.loads(path.read_text("utf8"))
        known = [s for s in told["scores"] if s is not None]
        size = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
        mean = float(np.mean(known)) if known else float("nan")
        rows.append(told["record"] | {"score": mean, "megabytes": size / 1e6, "folder": str(path.parent)})
    return sorted(rows, key=lambda row: (row["date"], row["folder"]))


def compare(a: str | StoredFit, b: str | StoredFit) -> metrics.Comparison:
    """Return the paired comparison of two fits' scores over neurons: a less b.

    Parameters
    ----------
    a, b : keys of stored fits, or the fits

    Raises
    ------
    ValueError : they were not scored on the same data
    """
    first, second = (load_fit(fit_) if isinstance(fit_, str) else fit_ for fit_ in (a, b))
    data = [fit_.record["data"]["scored"]["fingerprint"] for fit_ in (first, second)]
    if data[0] != data[1]:
        raise ValueError("a and b were scored on different data: only scores of the same clips and neurons compare")
    return metrics.compare(first.scores, second.scores)


def prune(keep: Callable[[dict[str, Any]], bool]) -> list[str]:
    """Delete the stored fits whose record, a row of `fits`, `keep` does not want; return their keys."""
    dropped = [row["key"] for row in fits() if not keep(row)]
    for key in dropped:
        shutil.rmtree(folder() / "fits" / key)
    return dropped


def recorded_fit(
    model: models.Model,
    train: NeuralDataset,
    validation: NeuralDataset | None = None,
    test: NeuralDataset | None = None,
    *,
    settings: Mapping[str, Any],
    name: str = "",
    key: str | None = None,
    history: Sequence[dict[str, float]] = (),
    best_epoch: int = 0,
    device: str = "cpu",
    seconds: float = 0.0,
) -> StoredFit:
    """Return a model that was fitted, by gradient descent or otherwise, with its scores and its record.

    Parameters
    ----------
    model : the fitted model
    train, validation, test : the clips that it was fitted to, that chose its weights, and that score it
    settings : how it was fitted, JSON values: a recipe's `to_dict`, or an estimator's parameters
    name : what to call it in lists; "": its class
    key : None: made of the configuration, the settings and the data
    history, best_epoch, device, seconds : of the fit
    """
    from strflab.report import commit, versions

    scored = test or validation or train
    datasets = {"train": train, "validation": validation, "scored": scored}
    used = {
        role: {"name": ds.name, "neurons": ds.n_neurons, "clips": ds.n_clips, "fingerprint": ds.fingerprint()}
        for role, ds in datasets.items()
        if ds is not None
    }
    if key is None:
        decides = [model.config, dict(settings), used, VERSION]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    record = {
        "name": name or type(model).__name__,
        "key": key,
        "version": VERSION,
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": dict(settings),
        "data": used,
        "best_epoch": best_epoch,
        "epochs": len(history),
        "device": device,
        "seconds": round(seconds, 2),
        "versions": versions(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }
    return StoredFit(model, _scores(model, scored, settings.get("loss")), list(history), record, stored=False)


def save_fit(kept: StoredFit, path: str | Path) -> None:
    """Write config.json, model.safetensors and fit.json (record, scores, history) to a folder; `load_fit` reads them.

    `strflab.models.from_pretrained` reads the model alone.

    Parameters
    ----------
    kept : a fit
    path : the folder, made if need be
    """
    path = Path(path)
    kept.model.save_pretrained(path)
    scores = [None if np.isnan(s) else float(s) for s in kept.scores]
    text = json.dumps({"record": kept.record, "scores": scores, "history": kept.history}, indent=1)
    (path / "fit.json").write_text(text + "\n", "utf8")


def _scores(model: models.Model, dataset: NeuralDataset, loss: str | None) -> np.ndarray:
    like = next(model.parameters())
    output = "poisson_log" if loss == "poisson_log" else "mse"  # the loss says whether the output is a rate or its log
    return fitting.Clips(model, dataset, like.device, output, like.dtype).evaluate(model, "normalized_corrcoef")[1]


def _write(path: Path, kept: StoredFit) -> None:
    """Write a fit to `path`, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    save_fit(kept, partial)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)
