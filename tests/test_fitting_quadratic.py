"""Steps of linear models from second moments against steps that run the model."""

import numpy as np
import pytest
import torch

from strflab import data, models
from strflab.fitting import Clips, Penalty, Recipe, fit
from strflab.fitting.quadratic import QuadraticLoss

F, N, T = 5, 3, 120


def recording(lengths=(T, T, T, T), missing=0.0, offset=60.0, seed=0):
    """A loud spectrogram, and neurons that hear it; `missing` is the part of the frames that each neuron lacks."""
    rng = np.random.default_rng(seed)
    stimuli = [offset + 5 * rng.normal(size=(F, n)) for n in lengths]
    weight = rng.normal(size=(N, F)) / 5
    responses = [(weight @ (x - offset) + 3)[:, None] + rng.normal(size=(N, 4, x.shape[1])) for x in stimuli]
    for y in responses:
        y[rng.random((N, 1, y.shape[-1])).repeat(4, 1) < missing] = np.nan
    return data.NeuralDataset(stimuli, responses, dt_ms=5.0, frequencies=np.geomspace(500, 8000, F))


def linear(seed=0, **options):
    torch.manual_seed(seed)
    return models.Linear(F, 4, N, **options)


def quadratic(model, ds, recipe, dtype=torch.float64):
    clips = Clips(model.to(dtype), ds, torch.device("cpu"), recipe.loss, dtype)
    return clips, QuadraticLoss.of(model, clips, recipe)


@pytest.mark.parametrize("lengths", [(T, T, T, T), (T, 70, 90, T)])
@pytest.mark.parametrize("kernel", ["full", {"type": "separable", "rank": 2}, {"type": "parametric"}])
@pytest.mark.parametrize("loss", ["mse", "nmse"])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_are_those_of_the_model(loss, kernel, lengths, bias):
    model, recipe = linear(kernel=kernel), Recipe(loss=loss)
    if not bias:
        model.readout.strf.bias = None
    clips, moments = quadratic(model, recording(lengths), recipe)
    for batch in (torch.tensor([1]), torch.tensor([3, 0]), torch.arange(4)):
        x, y, weight = clips.take(batch)
        expected = clips.loss(model(x), y, weight)
        found = moments(model, batch)
        parameters = list(model.parameters())
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0.0)
        for a, b in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters)):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))


def test_single_precision_is_no_worse_than_that_of_the_model():
    """The mean of a spectrogram in dB is far above its spread: moments about zero would lose its digits."""
    ds, recipe, batch = recording(offset=1000.0), Recipe(), torch.arange(4)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        model = linear()
        clips, moments = quadratic(model, ds, recipe, dtype)
        x, y, weight = clips.take(batch)
        for loss in (clips.loss(model(x), y, weight), moments(model, batch)):
            gradients.append(torch.autograd.grad(loss, model.readout.strf.kernel.weight)[0].double())
    exact, _, by_model, by_moments = gradients
    assert (by_moments - exact).norm() <= 2 * (by_model - exact).norm() + 1e-6 * exact.norm()


@pytest.mark.parametrize(
    ("make", "settings", "missing"),
    [
        (linear, {"loss": "poisson"}, 0.0),
        (linear, {"clip_frames": 50}, 0.0),
        (linear, {"compile": True}, 0.0),
        (linear, {"precision": "bfloat16"}, 0.0),
        (linear, {}, 0.1),  # neurons that lack frames of their own
        (lambda: linear(norm="batch"), {}, 0.0),
        (lambda: linear(prefiltering="adaptrans"), {}, 0.0),
        (lambda: linear(output_activation="sigmoid"), {}, 0.0),
        (lambda: models.LinearNonlinear(F, 4, N), {}, 0.0),
        (lambda: models.Linear(F, 40, N), {"batch_size": 1}, 0.0),  # more products than a convolution takes
        (lambda: type("Other", (models.Linear,), {})(F, 4, N), {}, 0.0),
    ],
)
def test_other_fits_run_the_model(make, settings, missing):
    assert quadratic(make(), recording(missing=missing), Recipe(**settings), torch.float32)[1] is None


def test_a_model_that_somebody_listens_to_is_run():
    model = linear()
    model.readout.register_forward_hook(lambda module, inputs, output: None)
    assert quadratic(model, recording(), Recipe())[1] is None


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_fit_is_the_same_either_way(optimizer, monkeypatch):
    ds = recording(offset=1.0)
    recipe = Recipe(
        epochs=15,
        batch_size=2,
        optimizer=optimizer,
        learning_rate=1e-2 if optimizer == "adamw" else 1e-4,
        penalties=(Penalty("smooth_time", 1e-3),),
        gradient_clip=5.0,
        ema=0.9,
        precision="float64",
    )
    runs = []
    for way in (QuadraticLoss.of, lambda *arguments: None):
        monkeypatch.setattr(QuadraticLoss, "of", way)
        runs.append(fit(linear(), ds.select(clips=[0, 1, 2]), ds.select(clips=[3]), recipe, progress=False))
    ours, plain = runs
    assert ours.best_epoch == plain.best_epoch
    for name in ("train_loss", "validation_loss", "score"):
        np.testing.assert_allclose([r[name] for r in ours.history], [r[name] for r in plain.history], rtol=1e-7)
    for a, b in zip(ours.model.parameters(), plain.model.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
