import math

import numpy as np
import pytest
import torch
from torch import nn

from strflab import data, metrics, models
from strflab.fitting import Clips, Diverged, Penalty, Recipe, fit, initialize_output, poisson_loss
from strflab.reverse_correlation import RidgeSTRF


def made_up(n_clips=4, n_neurons=3, n_bands=6, n_repeats=4, lengths=(40, 60, 50, 60), seed=0):
    """Noise heard by a linear population: a data set whose clips differ in length."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(n_neurons, n_bands))
    stimuli = [rng.normal(size=(n_bands, lengths[k % len(lengths)])) for k in range(n_clips)]
    rates = [weight @ x + 5 for x in stimuli]
    responses = [r[:, None] + rng.normal(size=(n_neurons, n_repeats, r.shape[-1])) for r in rates]
    return data.NeuralDataset(
        stimuli=stimuli, responses=responses, dt_ms=5.0, frequencies=np.geomspace(500, 8000, n_bands)
    )


def linear(ds, n_lags=1, seed=0):
    torch.manual_seed(seed)
    return models.Linear(ds.n_bands, n_lags, ds.n_neurons)


def test_gradient_fit_finds_the_least_squares_solution():
    ds = made_up()
    recipe = Recipe(learning_rate=0.05, epochs=400, patience=400, batch_size=4, monitor="loss")
    run = fit(linear(ds), ds, recipe=recipe, progress=False)
    closed = RidgeSTRF(n_lags=1, alphas=[1e-9], cv=None, precision="float64").fit(ds)
    np.testing.assert_allclose(run.model.STRF_weight().detach()[:, 0], closed.strf_, atol=2e-3)
    np.testing.assert_allclose(run.model.STRF_bias().detach(), closed.intercept_, atol=2e-3)


def test_best_weights_are_returned_not_the_last():
    ds = made_up()
    recipe = Recipe(learning_rate=0.5, epochs=30, patience=30, batch_size=1)  # steps far too long: scores jump about
    run = fit(linear(ds), ds.select(clips=[0, 1]), ds.select(clips=[2, 3]), recipe, progress=False)
    scores = [record["score"] for record in run.history]
    assert scores[-1] < max(scores)
    assert run.best_epoch == 1 + int(np.argmax(scores))
    held_out = ds.select(clips=[2, 3])
    batch = held_out.batch()
    with torch.no_grad():
        again = metrics.normalized_corrcoef(run.model(batch[0]), batch[1])
    np.testing.assert_allclose(run.scores, again, rtol=1e-4)
    assert max(scores) == pytest.approx(float(np.mean(run.scores)))


def test_patience_stops():
    ds = made_up()
    recipe = Recipe(learning_rate=1e-12, epochs=50, patience=3, monitor="loss")
    run = fit(linear(ds), ds, recipe=recipe, progress=False)
    assert len(run.history) < 50


class Explodes(nn.Module):
    """Predicts well for three epochs of one step, then answers with NaN."""

    def __init__(self, ds):
        super().__init__()
        self.inner, self.calls = linear(ds), 0

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.inner(x) * (math.nan if self.calls > 3 else 1.0)


def test_nan_is_reported_and_the_best_weights_are_kept():
    ds = made_up()
    model, seen = Explodes(ds), []
    with pytest.raises(Diverged, match=r"epoch 4.*learning_rate"):
        fit(
            model,
            ds,
            recipe=Recipe(epochs=10, batch_size=9),
            progress=False,
            callback=lambda record: seen.append(record),
        )
    assert len(seen) == 3
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_same_seed_same_weights_and_the_global_state_is_left_alone():
    ds = made_up()
    runs = [fit(linear(ds), ds, recipe=Recipe(epochs=5, batch_size=1, seed=s), progress=False) for s in (3, 3, 4)]
    weights = [run.model.STRF_weight() for run in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    state = torch.random.get_rng_state()
    fit(runs[0].model, ds, recipe=Recipe(epochs=1), progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_gradient_on_the_psth_is_the_gradient_on_single_trials():
    ds = made_up()
    responses = [r.clone() for r in ds.responses]
    responses[0][:, 2:] = math.nan  # two repeats of the first clip only
    responses[1][0, :, 10:20] = math.nan  # frames that one neuron lacks
    uneven = data.NeuralDataset(stimuli=ds.stimuli, responses=responses, dt_ms=5.0, frequencies=ds.frequencies)
    model = linear(ds)
    clips = Clips(model, uneven, torch.device("cpu"), "mse")
    clips.loss(model(clips.x), clips.y, clips.weight).backward()
    ours = model.readout.strf.kernel.weight.grad.clone()

    model.zero_grad()
    trials = 0.0
    for n in range(ds.n_neurons):  # each neuron's trials are averaged, each heard frame of a neuron counts alike
        errors, heard = [], 0
        for x, y in zip(uneven.stimuli, uneven.responses, strict=True):
            predicted, is_heard = model(x[None, None])[0, n].expand_as(y[n]), torch.isfinite(y[n])
            errors.append((predicted[is_heard] - y[n][is_heard]) ** 2)
            heard += int(torch.isfinite(y[n]).any(0).sum())
        trials = trials + torch.cat(errors).mean() * heard
    total = int((clips.weight > 0).sum())
    (trials / total).backward()
    torch.testing.assert_close(ours, model.readout.strf.kernel.weight.grad, rtol=1e-4, atol=1e-6)


def test_padding_of_short_clips_does_not_enter_the_loss():
    ds = made_up()
    model = linear(ds)
    together = Clips(model, ds, torch.device("cpu"), "mse")
    losses = [((model(x[None, None])[0, :, 0] - y) ** 2).sum() for x, y in zip(ds.stimuli, ds.psth, strict=True)]
    expected = torch.stack(losses).sum() / sum(y.numel() for y in ds.psth)
    torch.testing.assert_close(together.loss(model(together.x), together.y, together.weight), expected)


def test_nmse_weighs_neurons_alike():
    ds = made_up()
    louder = data.NeuralDataset(
        stimuli=ds.stimuli,
        responses=[r * torch.tensor([1.0, 10.0, 100.0])[:, None, None] for r in ds.responses],
        dt_ms=5.0,
        frequencies=ds.frequencies,
    )
    clips = Clips(linear(ds), louder, torch.device("cpu"), "nmse")
    mean = torch.stack([torch.cat([y[n] for y in louder.psth]).mean() for n in range(3)])[None, :, None, None]
    per_neuron = ((clips.y - mean) ** 2 * clips.weight).sum((0, 2, 3)) / (clips.weight > 0).sum((0, 2, 3))
    torch.testing.assert_close(per_neuron, torch.ones(3), rtol=1e-4, atol=0)


def test_poisson_loss_is_bounded_below_at_negative_rates():
    rate = torch.linspace(-1e3, 1e3, 2001, dtype=torch.float64, requires_grad=True)
    for spikes in (0.0, 1.0):
        loss = poisson_loss(rate, torch.tensor(spikes))
        (gradient,) = torch.autograd.grad(loss.sum(), rate)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()
        assert (gradient[rate < -0.01] < 0).all()  # a step downhill leads back to positive rates
        assert loss.min() > -10


def test_poisson_loss_is_the_likelihood_and_smooth_where_it_stops():
    y, lowest = torch.tensor(2.0, dtype=torch.float64), 1e-4
    p = torch.tensor([0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(poisson_loss(p, y), p - y * p.log())
    edge = torch.tensor([lowest * (1 - 1e-6), lowest * (1 + 1e-6)], dtype=torch.float64, requires_grad=True)
    loss = poisson_loss(edge, y, lowest)
    (slope,) = torch.autograd.grad(loss.sum(), edge)
    torch.testing.assert_close(loss[0], loss[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(slope[0], slope[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("loss", ["mse", "nmse", "poisson"])
def test_every_loss_falls(loss):
    ds = made_up()
    run = fit(linear(ds), ds, recipe=Recipe(loss=loss, epochs=20, learning_rate=0.03), progress=False)
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("loss", "mae"), ("learning_rate", 0.0), ("epochs", 0), ("patience", 1.5), ("monitor", "r"), ("seed", -1)],
)
def test_recipe_names_the_wrong_setting(option, value):
    with pytest.raises(ValueError, match=option):
        Recipe(**{option: value})


def test_data_that_do_not_fit_the_model_are_refused():
    ds = made_up()
    with pytest.raises(ValueError, match="out_neurons=7"):
        fit(models.Linear(ds.n_bands, 1, 7), ds)
    with pytest.raises(ValueError, match="n_frequency_bands=9"):
        fit(models.Linear(9, 1, ds.n_neurons), ds)
    with pytest.raises(ValueError, match="0 clips"):
        fit(linear(ds), ds.select(clips=[]))


def test_neurons_without_signal_do_not_spoil_the_monitor():
    ds = made_up()
    responses = [r.clone() for r in ds.responses]
    for r in responses:
        r[0] = 0.0
    silent = data.NeuralDataset(stimuli=ds.stimuli, responses=responses, dt_ms=5.0, frequencies=ds.frequencies)
    run = fit(linear(ds), silent, recipe=Recipe(epochs=3), progress=False)
    assert np.isnan(run.scores[0])
    assert np.isfinite(run.history[-1]["score"])
    for r in responses:
        r[:] = 0.0
    silent = data.NeuralDataset(stimuli=ds.stimuli, responses=responses, dt_ms=5.0, frequencies=ds.frequencies)
    with pytest.raises(Diverged, match="signal power"):
        fit(linear(ds), silent, recipe=Recipe(epochs=3), progress=False)


def test_penalties_are_their_formulas():
    model = models.Linear(4, 3, 2)
    w = model.readout.strf.kernel.weight.detach()
    expected = {
        "l1": w.abs().sum(),
        "l2": (w**2).sum(),
        "smooth_time": ((w[..., 1:] - w[..., :-1]) ** 2).sum(),
        "smooth_frequency": ((w[..., 1:, :] - w[..., :-1, :]) ** 2).sum(),
    }
    for kind, value in expected.items():
        torch.testing.assert_close(Penalty(kind, 0.5).of(model).detach(), 0.5 * value)


def test_penalty_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"parameters='core'.*readout"):
        Penalty("l1", 1.0, "core").of(models.Linear(4, 3, 2))
    with pytest.raises(ValueError, match="kind='l3'"):
        Penalty("l3", 1.0)


def test_a_strong_penalty_shrinks_the_weights():
    ds = made_up()
    sizes = [
        fit(
            linear(ds),
            ds,
            recipe=Recipe(epochs=60, learning_rate=0.05, penalties=terms, monitor="loss"),
            progress=False,
        )
        .model.STRF_weight()
        .abs()
        .sum()
        for terms in ((), (Penalty("l1", 1.0),))
    ]
    assert sizes[1] < 0.5 * sizes[0]


def test_schedule_rises_and_falls():
    recipe = Recipe(learning_rate=1.0, schedule="cosine", warmup=4, epochs=100)
    rates = [recipe.learning_rate_at(epoch) for epoch in range(101)]
    assert rates[0] == pytest.approx(0.25)
    assert max(rates) > 0.99
    assert rates[50] == pytest.approx(0.5, abs=1e-6)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


def test_recipe_hash_tells_settings_apart():
    recipe = Recipe(penalties=(Penalty("l1", 1e-3),))
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(recipe.to_dict()).digest == recipe.digest
    assert Recipe(penalties=(Penalty("l1", 1e-4),)).digest != recipe.digest
    with pytest.raises(ValueError, match="epoch=3"):
        Recipe.from_dict({"epoch": 3})


def test_averaged_weights_are_returned():
    ds = made_up()
    steps = []

    class Watched(models.Linear):
        def train(self, mode=True):
            if not mode:
                steps.append(self.readout.strf.kernel.weight.detach().clone())
            return super().train(mode)

    torch.manual_seed(0)
    model = Watched(ds.n_bands, 1, ds.n_neurons)
    start = model.readout.strf.kernel.weight.detach().clone()
    plain = fit(
        linear(ds), ds, recipe=Recipe(epochs=1, batch_size=9, learning_rate=0.1, initialize=False), progress=False
    )
    run = fit(
        model, ds, recipe=Recipe(epochs=1, batch_size=9, learning_rate=0.1, initialize=False, ema=0.75), progress=False
    )
    expected = 0.75 * start + 0.25 * plain.model.readout.strf.kernel.weight
    torch.testing.assert_close(run.model.readout.strf.kernel.weight, expected)


def test_pieces_hold_the_right_frames_and_count_only_what_was_heard():
    ds = made_up()
    clips = Clips(linear(ds), ds, torch.device("cpu"), "mse")
    x, y, weight = clips.pieces(torch.arange(4), 20, unheard=5, generator=torch.Generator().manual_seed(0))
    for k in range(4):
        starts = [s for s in range(41) if torch.equal(clips.x[k, ..., s : s + 20], x[k])]
        assert len(starts) == 1
        torch.testing.assert_close(clips.y[k, ..., starts[0] : starts[0] + 20], y[k])
        assert bool((weight[k, ..., :5] == 0).all()) == (starts[0] > 0)
        assert (weight[k, ..., 5:] > 0).all()


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_other_precisions_fit(precision):
    ds = made_up()
    run = fit(linear(ds), ds, recipe=Recipe(epochs=30, learning_rate=0.05, precision=precision), progress=False)
    assert run.history[-1]["train_loss"] < 0.5 * run.history[0]["train_loss"]
    assert next(run.model.parameters()).dtype == (torch.float64 if precision == "float64" else torch.float32)


@pytest.mark.parametrize(
    "activation", ["identity", "parametric_softplus", "parametric_sigmoid", "double_exponential", "softplus"]
)
@pytest.mark.parametrize("name", ["Linear", "NetworkReceptiveField"])
def test_a_new_model_starts_at_the_neurons_mean_and_spread(name, activation):
    ds = data.load("simulated", n_neurons=4, n_clips=6, seconds=2.0, seed=5)
    torch.manual_seed(0)
    model = models.build(name, n_frequency_bands=ds.n_bands, out_neurons=4, output_activation=activation)
    clips = Clips(model, ds, torch.device("cpu"), "mse")
    initialize_output(model, clips)
    mean, variance = clips.moments()
    prediction = clips.predict(model)
    assert ((prediction.mean((0, 2, 3)) - mean).abs() < 2 * variance.sqrt()).all()
    assert (prediction.std((0, 2, 3)) < 3 * variance.sqrt()).all()
    assert (prediction.std((0, 2, 3)) > 0.02 * variance.sqrt()).all()


def test_a_fitted_model_goes_on_from_its_own_weights(tmp_path):
    ds = made_up()
    model = fit(linear(ds), ds, recipe=Recipe(epochs=30, learning_rate=0.05), progress=False).model
    model.save_pretrained(tmp_path)
    for again in (model, models.from_pretrained(tmp_path)):
        before = again.STRF_weight().detach().clone()
        initialize_output(again, Clips(again, ds, torch.device("cpu"), "mse"))
        assert torch.equal(again.STRF_weight(), before)
