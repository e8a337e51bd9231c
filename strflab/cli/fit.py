"""`strflab fit`: fit a model to a data set or to one's own arrays, into a folder."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strflab.cli.text import UsageError, add_json, as_json, as_words, counted, indices, key_values, spans, usage

if TYPE_CHECKING:
    from strflab.data import NeuralDataset
    from strflab.results import StoredFit

HELP = """Fit a model and write what came of it to a folder.

    strflab fit ridge --data simulated --out fits/ridge
    strflab fit gru --data ns1 --load units=all --out fits/gru --device cuda
    strflab fit nrf --arrays mine.npz --out fits/nrf --set n_hidden=10 --recipe epochs=30
    strflab fit ln --arrays mine.npz --out fits/ln --test-clips 0-3 --validation-clips 4,5

strflab models lists the models, and strflab models NAME what --set can change. ridge is the closed form: a linear
receptive field a neuron, its penalty chosen by cross-validation over the training clips.
"""
EPILOG = """The arrays file is one that numpy.savez writes. Its keys:

    dt_ms                        length of a frame, ms
    frequencies                  (F,) centre of each band, Hz
    stimuli_0, stimuli_1, ...    (F, T) spectrograms, one a sound, of any lengths
    responses_0, ...             (N, R, T) spikes per frame of N neurons in R repeats, or (N, T) for one; NaN: missing
    neurons, clips               optional: their names

stimuli (K, F, T) and responses (K, N, R, T) may stand for the numbered keys where all sounds are equally long.

The folder then holds the model (config.json, model.safetensors), fit.json (what was done), scores.csv (a row a neuron),
history.csv (a row an epoch) and receptive_fields.png. Read the model with strflab.models.from_pretrained(FOLDER).

A fit that was interrupted goes on where it stopped when the same command is given again."""
CHECKPOINT = "checkpoint"


def add(commands: Any) -> None:
    """Describe the command to the parser."""
    parser = commands.add_parser("fit", help="fit a model to a recording", description=HELP, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL", help="a name of strflab models, or a class of strflab.models")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="NAME", help="a data set, as strflab data lists it")
    source.add_argument(
        "--arrays", metavar="FILE", type=Path, help="a file of your own, .npz (see below) or from NeuralDataset.save"
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where to write")
    parser.add_argument(
        "--force", action="store_true", help="write over the fit that is there, or begin an interrupted one afresh"
    )

    which = parser.add_argument_group("what is fitted to what")
    pairs: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    which.add_argument("--set", **pairs, help="settings of the model, such as n_hidden=10 norm=none")
    which.add_argument("--load", **pairs, help="options of the data set, such as units=all (ns1), area=PEG (nat4)")
    which.add_argument("--neurons", metavar="LIST", help="only these, counted from 0, such as 0-9,12")
    which.add_argument(
        "--test-clips", metavar="LIST", help="score on these; default: those of the data set, or every 5th"
    )
    which.add_argument(
        "--validation-clips",
        metavar="LIST",
        help="keep the weights that score best on these; default: none are held out",
    )
    which.add_argument(
        "--standardize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bring the sound to mean 0 and variance 1, for which the recipes were chosen (not for ridge)",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--recipe", **pairs, help="settings of strflab.fitting.Recipe, such as epochs=30 loss=poisson")
    how.add_argument("--seed", type=int, help="of the first weights and the order of clips (0)")
    how.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, mps")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, write and say what came of it."""
    from strflab.cli import outcome, settings
    from strflab.memory import keep_freed_memory

    keep_freed_memory()
    name = settings.find(args.model)
    _check_folder(args.out, args.force)
    ds = _dataset(args)
    test, validation = _held_out(args, ds)
    train = [k for k in range(ds.n_clips) if k not in {*test, *validation}]
    if not train:
        raise UsageError("no clip is left to learn from: hold out fewer with --test-clips and --validation-clips")
    note = {"train": spans(train), "validation": spans(validation), "test": spans(test)}
    stimulus = {"mean": 0.0, "sd": 1.0}
    if args.standardize and name != settings.RIDGE:
        ds, stimulus = outcome.standardized(ds)
    which = ", ".join(f"{role} {clips}" for role, clips in note.items() if clips)
    print(f"{name}: {counted(ds.n_neurons, 'neuron')} of {ds.name}; clips: {which} (counted from 0)", file=sys.stderr)
    parts = {"train": ds.select(clips=train), "test": ds.select(clips=test)}
    if name == settings.RIDGE:
        kept, extra = _closed_form(args, parts)
    else:
        held_out = ds.select(clips=validation) if validation else None
        kept, extra = _network(args, name, parts, held_out), {}
    kept.record |= {"clips": note, "stimulus": stimulus}
    written, summary = outcome.write(args.out, kept, parts["test"], extra)
    shutil.rmtree(args.out / CHECKPOINT, ignore_errors=True)
    if args.json:
        print(as_json({"folder": args.out, "files": written} | kept.record | {"summary": summary}))
        return 0
    print(
        f"{kept.record['parameters']} parameters, fitted in {kept.record['seconds']:.3g} s on {kept.record['device']}"
    )
    for score, words in summary.items():
        print(f"{score} on the test clips: {words['text']}")
    if stimulus != {"mean": 0.0, "sd": 1.0}:
        print(f"the model hears (sound - {stimulus['mean']:.6g}) / {stimulus['sd']:.6g}; fit.json keeps both numbers")
    print(f"{args.out}: {', '.join(written)}")
    return 0


def _check_folder(out: Path, force: bool) -> None:
    """Refuse a folder that holds something, but for a fit to be written over or one that was interrupted."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; give a folder")
    holds = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if "fit.json" in holds:
        if not force:
            raise UsageError(f"--out {out}: holds a fit; choose another folder, or give --force to write over it")
    elif holds - {CHECKPOINT}:
        raise UsageError(f"--out {out}: holds other files; choose another folder")


def _dataset(args: argparse.Namespace) -> NeuralDataset:
    """The data set or the arrays that the command names, with the neurons that it names."""
    from strflab import data

    if args.arrays is not None:
        if args.load:
            raise UsageError("--load: is for --data; an arrays file has no options")
        with usage():
            if not args.arrays.is_file():
                raise UsageError(f"--arrays {args.arrays}: there is no such file")
            ds = data.read(args.arrays)
    else:
        options = key_values("--load", args.load)
        with usage():
            data.is_here(args.data)  # raises if there is no such set
            try:
                ds = data.load(args.data, **options)
            except data.RecordingUnavailable as error:
                raise RuntimeError(str(error)) from error  # the command was right
    if args.neurons is not None:
        ds = ds.select(neurons=indices("--neurons", args.neurons, ds.n_neurons))
    return ds


def _held_out(args: argparse.Namespace, ds: NeuralDataset) -> tuple[list[int], list[int]]:
    """The clips that score the model and those that choose its weights."""
    if ds.n_clips < 2:
        raise UsageError(f"{ds.name} has {ds.n_clips} clip: at least two are needed, to learn from and to score on")
    if args.test_clips is not None:
        test = indices("--test-clips", args.test_clips, ds.n_clips)
    else:
        test = [k for k, clip in enumerate(ds.clips) if clip.get("test") or clip.get("validation")]
        test = test or list(range(ds.n_clips))[4::5] or [ds.n_clips - 1]
    if args.validation_clips is None:
        return test, []
    validation = indices("--validation-clips", args.validation_clips, ds.n_clips)
    if both := sorted({*test} & {*validation}):
        raise UsageError(f"--validation-clips: clip {both[0]} is a test clip too")
    return test, validation


def _closed_form(args: argparse.Namespace, parts: dict[str, NeuralDataset]) -> tuple[StoredFit, dict[str, Any]]:
    """Ridge, kept as the linear model that it is, and the penalty of each neuron."""
    from strflab import models, report, results
    from strflab.cli import settings
    from strflab.reverse_correlation import RidgeSTRF

    train = parts["train"]
    for option, given in (("--recipe", args.recipe), ("--validation-clips", args.validation_clips)):
        if given:
            raise UsageError(f"{option}: ridge is solved in closed form; change it with --set n_lags=30 cv=8")
    if train.n_clips < 2:
        raise UsageError("ridge needs two training clips or more, to choose its penalty: hold out fewer")
    chosen = settings.options_of(settings.RIDGE, train.dt_ms) | {"cv": min(5, train.n_clips)}
    chosen |= key_values("--set", args.set)
    with usage():
        device = str(report.find_device(args.device))
        ridge = RidgeSTRF()
        ridge.set_params(**chosen | {"device": device})
        started = time.perf_counter()
        ridge.fit(train)
    model = models.Linear.from_strf(ridge.strf_, ridge.intercept_)
    kept = results.recorded_fit(
        model,
        train,
        test=parts["test"],
        settings={"estimator": "RidgeSTRF"} | chosen,
        name="ridge",
        device=device,
        seconds=time.perf_counter() - started,
    )
    return kept, {"penalty": ridge.alpha_}


def _network(
    args: argparse.Namespace, name: str, parts: dict[str, NeuralDataset], validation: NeuralDataset | None
) -> StoredFit:
    """A network fitted by gradient descent, with a checkpoint that an interrupted fit goes on from."""
    import numpy as np
    import torch

    from strflab import fitting, report, results
    from strflab.cli import settings

    train, test = parts["train"], parts["test"]
    chosen = key_values("--recipe", args.recipe)
    if args.seed is not None:
        chosen["seed"] = args.seed
    if not np.isfinite((validation or train).ccmax).any():
        chosen.setdefault("monitor", "corrcoef")  # one repeat has no noise ceiling
    with usage():
        device = report.find_device(args.device)
        recipe = settings.recipe(name, chosen, train.n_clips)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = settings.build(name, train.n_bands, train.n_neurons, train.dt_ms, key_values("--set", args.set))
        for penalty in recipe.penalties:
            penalty.names(model)
    if args.set:
        print(f"settings: {as_words(key_values('--set', args.set))}", file=sys.stderr)
    key = results.fit_key(model, train, validation, test, recipe)
    if args.force:
        shutil.rmtree(args.out / CHECKPOINT, ignore_errors=True)
    watched = sys.stderr.isatty()
    try:
        done = fitting.fit(
            model, train, validation, recipe, checkpoint=args.out / CHECKPOINT, device=device, progress=watched
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it stopped") from None
    return results.recorded_fit(
        model,
        train,
        validation,
        test,
        settings=recipe.to_dict(),
        name=name,
        key=key,
        history=done.history,
        best_epoch=done.best_epoch,
        device=done.device,
        seconds=done.seconds,
    )
