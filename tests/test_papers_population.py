import numpy as np
import pytest
import torch

from strflab import data, metrics, results
from strflab.papers import population

FEW = {"epochs": 1, "patience": 1}


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=3, n_clips=20, seconds=0.5, n_repeats=3)


@pytest.mark.parametrize("name", population.SPECS)
def test_every_model_is_made_for_any_population(name):
    model = population.build(name, 34, 5)
    assert model(torch.zeros(1, 1, 34, 30)).shape == (1, 5, 1, 30)
    assert population.recipe(name, seed=3, epochs=2).seed == 3
    assert population.recipe(name).patience >= population.recipe(name).epochs  # the last weights count, not the best


def test_options_win_over_those_of_the_spec():
    assert population.build("nrf", 34, 2, n_hidden=7).n_hidden == 7
    assert population.recipe("gru", learning_rate=1e-4).learning_rate == 1e-4
    with pytest.raises(ValueError, match=r"name='nothing': must be one of"):
        population.build("nothing", 34, 2)


def test_time_constants_of_the_dynamic_network_are_drawn():
    torch.manual_seed(0)
    first, second = (population.build("dnet", 34, 2).tau for _ in range(2))
    assert (first != second).any()
    assert first.min() >= 1


def test_a_fit_is_run_once_and_scored_on_the_test_clips(ds, tmp_path, monkeypatch):
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path))
    fits = population.fit(["ln"], ds, seeds=(0, 1), n_jobs=1, progress=False, settings=FEW)["ln"]
    again = population.fit(["ln"], ds, seeds=(0, 1), n_jobs=1, progress=False, settings=FEW)["ln"]
    assert [f.stored for f in fits] == [False, False]
    assert [f.stored for f in again] == [True, True]
    assert len(results.fits()) == 2
    _, test = data.ns1.paper_split(ds)
    prediction = population.predict(fits[0].model, test)
    assert prediction.shape == (4, 3, 100)
    np.testing.assert_allclose(population.score(prediction, test, 0.0), fits[0].scores, atol=1e-5)


def test_score_leaves_out_the_start_of_each_clip(ds):
    test = ds.select(clips=[0, 1])
    rng = np.random.default_rng(0)
    p = rng.random((2, 3, 100))
    wanted = metrics.normalized_corrcoef([q[:, 40:] for q in p], [r[..., 40:].numpy() for r in test.responses])
    np.testing.assert_allclose(population.score(p, test), wanted)


def test_predictions_are_checked_against_their_stored_scores(ds):
    rng = np.random.default_rng(0)
    p, test = rng.random((4, 2, 100)), data.ns1.paper_split(ds)[1].select(neurons=[2, 0])
    stored = population.score(p, test)
    population.check_scores("m", p, stored, ds, np.array([2, 0]))
    with pytest.raises(ValueError, match=r"'m' do not give their stored scores \(off by 0.01\).*refit=True"):
        population.check_scores("m", p, stored + [0, 0.01], ds, [2, 0])


def test_the_papers_units(recordings):
    ds = recordings("ns1", units="all")
    assert len(population.in_paper(ds)) == 73
    assert population.in_paper(recordings("ns1")).tolist() == list(range(73))
