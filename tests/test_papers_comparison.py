import numpy as np
import pytest
import torch

from strflab import data, models
from strflab.papers import comparison, population
from strflab.results import Result

NAMES = ("ln", "gru_wide")


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=5, n_clips=20, seconds=1.0, n_repeats=4)


@pytest.fixture(scope="module")
def arrays(ds, tmp_path_factory):
    songs = data.load("simulated", n_neurons=1, n_clips=10, seconds=(0.6, 1.0), n_repeats=4, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRFLAB_RESULTS", str(tmp_path_factory.mktemp("results")))
        return comparison.analyse(
            ds,
            songs,
            n_jobs=1,
            seeds=(0, 1),
            ensemble_seeds=(0, 1),
            names=NAMES,
            song_names=("ln",),
            settings={"epochs": 1, "patience": 1},
        )


def test_every_model_seed_and_unit_has_a_score(arrays):
    assert arrays["scores"].shape == arrays["scores_every_frame"].shape == (2, 2, 5)
    assert arrays["scores_average"].shape == arrays["many"].shape == arrays["ensemble"].shape == (2, 5)
    assert arrays["closed_form"].shape == arrays["mixed"].shape == arrays["ccmax"].shape == (5,)
    assert arrays["song_scores"].shape == (1, 2)
    assert arrays["song_resampled"].shape == (2, 200)
    assert np.isfinite(arrays["song_closed_form"])
    assert (arrays["seconds"] > 0).all()


def test_parameters_are_those_of_the_models(arrays):
    counts = [sum(p.numel() for p in population.build(name, 34, 5).parameters()) for name in NAMES]
    assert arrays["parameters"].tolist() == counts


def test_an_ensemble_of_one_is_the_fit_itself(arrays):
    np.testing.assert_allclose(arrays["ensemble"][0], arrays["many"][0])
    np.testing.assert_allclose(arrays["ensemble"][0], arrays["scores"][1, 0])
    np.testing.assert_allclose(arrays["ensemble"][1], arrays["scores_average"][1])


def test_stored_rates_are_scored_again(arrays, ds):
    kept = Result("06", arrays, {}, stored=True)
    comparison.verify(kept, ds)
    arrays = arrays | {"shown_scores": arrays["shown_scores"] + 0.1}
    with pytest.raises(ValueError, match="'gru_wide' do not give their stored scores"):
        comparison.verify(Result("06", arrays, {}, stored=True), ds)


def test_a_recording_is_not_compared_with_a_simulated_song(ds):
    ds = ds.select(clips=range(ds.n_clips))
    ds.name = "ns1"
    with pytest.raises(ValueError, match="songs='simulated'"):
        comparison.analyse(ds, data.load("simulated", n_neurons=1, n_clips=10, seconds=1.0))


def test_memory_is_what_a_gradient_keeps():
    model, x = models.Linear(34, 9, 2), torch.zeros(34, 1000)
    few, many = (comparison.memory(model, x[:, :n]) for n in (500, 1000))
    assert 34 * 500 * 4 / 1e6 <= few < many  # the padded sound at least
    assert many / few == pytest.approx(2, rel=0.05)
    assert not model.training


def test_songs_are_predicted_by_fits_that_did_not_hear_them():
    songs = data.load("simulated", n_neurons=1, n_clips=4, seconds=(0.5, 0.7))
    constant = [models.Linear(34, 1, 1) for _ in range(2)]
    for value, model in enumerate(constant):
        for p in model.parameters():
            torch.nn.init.constant_(p, 0.0)
        model.readout.strf.bias.data.fill_(value)
    rates = comparison._held_out(songs, [(constant[0], (0, 2)), (constant[1], (1, 3))])
    assert [float(r[0, 0]) for r in rates] == [0, 1, 0, 1]
    assert [r.shape[1] for r in rates] == songs.n_frames


def test_songs_are_heard_on_the_scale_that_the_recipes_were_chosen_for():
    songs = data.load("simulated", n_neurons=1, n_clips=3, seconds=(0.5, 0.7))
    louder = data.NeuralDataset([15 + 14 * x for x in songs.stimuli], songs.responses, songs.dt_ms, songs.frequencies)
    sound = torch.cat(list(comparison._standardized(louder).stimuli), 1)
    assert float(sound.mean()) == pytest.approx(0, abs=1e-4)
    assert float(sound.std()) == pytest.approx(1, abs=1e-4)
