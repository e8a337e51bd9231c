"""Cross-validation by clip, and readouts on a core that stays."""

import numpy as np
import pytest
import torch

from strflab import metrics, models
from strflab.fitting import Penalty, Recipe, fit
from strflab.sweeps import cross_validate, folds, refit_readout, transfer, vary
from tests.test_fitting import made_up


@pytest.fixture(scope="module")
def ds():
    return made_up(n_clips=6, n_neurons=3, lengths=(60,))


def linear():
    return models.Linear(6, 1, 1)


@pytest.mark.parametrize(("k", "n"), [(3, 3), ("loo", 6), ([(0, 5), (2,)], 2)])
def test_folds_hold_out_whole_clips_once(ds, k, n):
    found = folds(ds, k)
    assert len(found) == n
    for train, test in found:
        assert sorted(train + test) == list(range(6))
    held_out = [clip for _, test in found for clip in test]
    assert len(set(held_out)) == len(held_out)


@pytest.mark.parametrize("k", [1, 7, "all", [(0, 1), (1,)], [(9,)], [()], [tuple(range(6))]])
def test_folds_that_cannot_be_are_refused(k):
    with pytest.raises(ValueError, match="k="):
        folds(6, k)


def test_folds_of_some_clips_stay_among_them():
    assert folds([4, 7, 9], "loo")[1] == ((4, 9), (7,))


def test_the_choice_and_the_fit_never_hear_the_test_clips(ds):
    recipes = vary(Recipe(epochs=4, learning_rate=0.05), penalties=[(Penalty("l1", s),) for s in (0.0, 10.0)])
    result = cross_validate(linear, ds, recipes, cv=[(1, 4)], inner=2, progress=False)
    ((train, test),) = result.folds
    assert test == (1, 4)
    for member in result.inner.members:
        assert sorted(member.train + member.validation) == sorted(train)
    assert all(member.train == train and member.validation is None for member in result.outer.members)
    assert len(result.inner) == 2 * 2 * 3  # folds, recipes, neurons


def test_each_neuron_gets_the_recipe_that_did_best_and_the_epochs_that_were(ds):
    recipes = vary(Recipe(epochs=5, learning_rate=0.05), learning_rate=[1e-9, 0.05])
    result = cross_validate(linear, ds, recipes, cv=3, inner=2, progress=False)
    assert result.inner_scores.shape == (3, 2, 3)
    np.testing.assert_array_equal(result.chosen, result.inner_scores.argmax(1))
    for member, chosen in zip(result.outer.members, result.chosen.ravel(), strict=True):
        assert member.recipe.learning_rate == recipes[chosen].learning_rate
        assert 1 <= member.recipe.epochs <= 5
    pooled = metrics.normalized_corrcoef([result.predictions[k] for k in range(6)], [ds.responses[k] for k in range(6)])
    np.testing.assert_allclose(result.scores, pooled)
    assert result.fold_scores.shape == (3, 3)


def test_one_model_of_the_population(ds):
    recipe = Recipe(epochs=100, learning_rate=0.05, monitor="loss")
    result = cross_validate(lambda: models.Linear(6, 1, 3), ds, recipe, cv=2, neurons="together", progress=False)
    assert len(result.outer) == 2
    assert (result.scores > 0.8).all()


def test_nothing_is_chosen_without_inner_folds(ds):
    with pytest.raises(ValueError, match="inner=None"):
        cross_validate(linear, ds, [Recipe(), Recipe(learning_rate=0.1)], cv=2)


def population(n):
    torch.manual_seed(0)
    return models.NetworkReceptiveField(6, 2, n, n_hidden=5)


def test_refit_moves_the_readout_alone_and_improves_it(ds):
    train, validation = (0, 1, 2, 3), (4, 5)
    run = fit(population(3), ds.select(clips=list(train)), recipe=Recipe(epochs=3), progress=False)
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    recipe = Recipe(epochs=60, learning_rate=0.02, monitor="loss")
    refitted, sweep = refit_readout(run.model, ds, recipe, train=train, validation=validation, progress=False)
    after = refitted.state_dict()
    for name, tensor in before.items():
        assert torch.equal(run.model.state_dict()[name], tensor)
        assert torch.equal(after[name], tensor) == name.startswith("core")
    assert set(sweep.how) == {"batched"}

    held_out = ds.select(clips=list(validation))
    x, y = held_out.batch().stimuli, torch.stack(held_out.psth).unsqueeze(2)
    with torch.no_grad():
        losses = [((model(x) - y) ** 2).mean((0, 2, 3)) for model in (run.model, refitted)]
    assert (losses[1] < losses[0]).all()
    np.testing.assert_allclose(losses[1], [run.scores[0] for run in sweep.runs], rtol=1e-4)


def test_the_core_carries_over_to_other_neurons(ds):
    core = fit(population(2), ds.select(neurons=[0, 1]), recipe=Recipe(epochs=30, learning_rate=0.02), progress=False)
    recipe = Recipe(epochs=100, learning_rate=0.02)
    new, sweep = transfer(core.model, ds, recipe, train=(0, 1, 2, 3), validation=(4, 5), progress=False)
    assert new.out_neurons == 3
    for name, tensor in core.model.core.state_dict().items():
        assert torch.equal(new.core.state_dict()[name], tensor)
    held_out = ds.select(clips=[4, 5]).batch()
    with torch.no_grad():
        scores = metrics.normalized_corrcoef(new(held_out.stimuli), held_out.responses)
    np.testing.assert_allclose(scores, [run.scores[0] for run in sweep.runs], rtol=1e-4)
    assert (scores[:2] > 0.8).all()  # the core has heard the third neuron never


def test_a_hidden_layer_of_the_readout_is_shared_and_stays(ds):
    torch.manual_seed(0)
    model = models.ConvNet1D(6, 2, 3, n_channels=4, n_hidden=5)
    model.fitted = True
    refitted, _ = refit_readout(model, ds, Recipe(epochs=2), train=(0, 1), progress=False)
    assert torch.equal(refitted.core[0].STRF_weight(), model.core[0].STRF_weight())
    with pytest.raises(ValueError, match="out_neurons=3"):
        refit_readout(model, ds.select(neurons=[0]), train=(0, 1))
