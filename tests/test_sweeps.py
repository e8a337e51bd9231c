"""Many fits at once give what fits one by one give; what fails is reported."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from strflab import models
from strflab.fitting import Penalty, Recipe, fit
from strflab.sweeps import Member, fit_many, many, vary
from strflab.sweeps.batched import why_not
from tests.test_fitting import made_up

TRAIN, HELD_OUT = (0, 1, 2, 3), (4, 5)


@pytest.fixture(scope="module")
def ds():
    return made_up(n_clips=6, n_neurons=3, lengths=(60,))


def nrf():
    return models.NetworkReceptiveField(6, 3, 1, n_hidden=4)


def recipe(**settings):
    # float64, for AdamW makes steps of one size out of rounding errors where a gradient should be zero
    return Recipe(**({"epochs": 5, "batch_size": 2, "learning_rate": 0.02, "precision": "float64"} | settings))


def assert_same(sweep, reference):
    assert not sweep.failed
    assert sweep.all_models() == sweep.models()
    assert not reference.failed
    for ours, theirs in zip(sweep.runs, reference.runs, strict=True):
        assert ours.best_epoch == theirs.best_epoch
        assert len(ours.history) == len(theirs.history)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        for one, other in zip(ours.history, theirs.history, strict=True):
            for name in ("train_loss", "validation_loss", "score"):
                assert one[name] == pytest.approx(other[name], rel=1e-6, abs=1e-8)
        for name, tensor in theirs.model.state_dict().items():
            torch.testing.assert_close(ours.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def both(build, ds, members, **options):
    sweep = fit_many(build, ds, members, batched="always", progress=False, **options)
    assert set(sweep.how) == {"batched"}
    assert_same(sweep, fit_many(build, ds, members, batched="never", progress=False))
    return sweep


def test_batched_members_equal_separate_fits_over_neurons_seeds_rates_and_folds(ds):
    members = [
        Member(n, TRAIN, HELD_OUT, recipe(learning_rate=rate), seed=seed)
        for n in range(3)
        for rate in (0.01, 0.05)
        for seed in (0, 1)
    ]
    members += [Member(n, (5, 4, 3, 2), (0, 1), recipe(seed=7)) for n in range(2)]  # two lanes of two
    members += [Member(n, (0, 1, 4, 5), (2, 3), recipe()) for n in range(2)]
    both(nrf, ds, members)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "learning_rate": 0.001, "weight_decay": 0.1},
        {"loss": "nmse", "weight_decay": 0.1, "schedule": "cosine", "warmup": 2},
        {"loss": "poisson", "gradient_clip": 0.1},
        {"ema": 0.8, "monitor": "loss"},
        {"clip_frames": 20, "batch_size": 3},
        {"initialize": False, "monitor": "corrcoef"},
    ],
    ids=str,
)
def test_every_kind_of_recipe_means_the_same(ds, settings):
    both(nrf, ds, [Member(n, TRAIN, HELD_OUT, recipe(**settings), seed=n) for n in range(3)])


def test_penalties_have_a_strength_for_each_member(ds):
    grids = [(Penalty("l1", s), Penalty("smooth_time", 10 * s, "core*kernel.weight")) for s in (0.0, 1e-3, 1e-1)]
    sweep = both(nrf, ds, [Member(0, TRAIN, HELD_OUT, r) for r in vary(recipe(), penalties=grids)])
    sizes = [sum(float(p.detach().abs().sum()) for p in model.parameters()) for model in sweep.models()]
    assert sizes[2] < sizes[0]


def test_each_member_stops_by_itself_and_finished_ones_are_given_up(ds):
    settings = [{"epochs": e, "patience": p} for e, p in ((2, 9), (12, 1), (12, 12), (3, 9), (7, 2))]
    members = [Member(n, TRAIN, HELD_OUT, recipe(learning_rate=0.2, **s)) for n in range(2) for s in settings]
    members += [Member(n, (2, 3, 4, 5), (0, 1), recipe(learning_rate=0.2, **s)) for n in range(2) for s in settings]
    sweep = both(nrf, ds, members)
    assert len({len(run.history) for run in sweep.runs}) > 3


def test_small_batches_and_clips_of_other_lengths_change_nothing():
    ds = made_up(n_clips=6, n_neurons=3)
    members = [Member(n, clips, None, recipe()) for n in range(3) for clips in ((0, 1, 2), (3, 4, 5))]
    both(nrf, ds, members, at_once=2)


def test_populations_of_several_neurons(ds):
    members = [Member((2, 0), TRAIN, HELD_OUT, recipe(), seed=seed) for seed in range(3)]
    both(lambda: models.Linear(6, 3, 2), ds, members)


def test_running_means_belong_to_a_member(ds):
    sweep = both(
        lambda: models.Linear(6, 3, 1, norm="batch"), ds, [Member(n, TRAIN, HELD_OUT, recipe()) for n in (0, 1)]
    )
    means = [model.readout.norm.running_mean for model in sweep.models()]
    assert not torch.equal(*means)


def test_a_member_is_what_fit_gives(ds):
    torch.manual_seed(3)
    model = nrf()
    own = ds.select(neurons=[1])
    run = fit(model, own.select(clips=list(TRAIN)), own.select(clips=list(HELD_OUT)), recipe(), progress=False)
    member = Member(1, TRAIN, HELD_OUT, recipe(), seed=3)
    state = torch.get_rng_state()
    sweep = fit_many(nrf, ds, [member, member], progress=False)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_allclose(sweep.runs[0].scores, run.scores, rtol=1e-8)
    assert sweep.table()[0]["best_epoch"] == run.best_epoch


class Careless(nn.Module):
    """Counts on a number, which vmap has none of; fails, diverges or kills its process when told to."""

    def __init__(self, does=""):
        super().__init__()
        self.inner, self.does = models.Linear(6, 2, 1), does

    def forward(self, x):
        if float(self.inner.readout.strf.bias.detach()[0]) > 1e9:
            raise ArithmeticError
        if self.does == "fails":
            raise KeyError("a mistake of the model's")
        if self.does == "dies":
            os._exit(1)
        return self.inner(x) * (torch.nan if self.does == "diverges" else 1.0)


def test_what_cannot_be_batched_is_fitted_one_by_one(ds):
    assert "item" in why_not(Careless(), recipe(), ds.stimuli[0])
    members = [Member(n, TRAIN, HELD_OUT, recipe()) for n in range(2)]
    sweep = fit_many(Careless, ds, members, progress=False)
    assert sweep.how == ["in turn", "in turn"]
    assert not sweep.failed
    with pytest.raises(ValueError, match="batched='always'"):
        fit_many(Careless, ds, members, batched="always", progress=False)


def test_failed_members_are_tried_again_and_reported(ds):
    members = [Member(0, TRAIN, HELD_OUT, recipe(epochs=2))] * 3
    sweep = fit_many([Careless("fails"), Careless(), Careless("diverges")], ds, members, n_retries=2, progress=False)
    assert sweep.failed == [0, 2]
    assert "a mistake of the model's" in sweep.errors[0]
    assert "learning_rate" in sweep.errors[2]
    assert sweep.attempts == [3, 1, 1]
    assert np.isnan(sweep.scores[[0, 2]]).all()
    assert sweep.table()[0]["error"] == sweep.errors[0]
    with pytest.raises(
        RuntimeError, match=r"2 of 3 fits failed: members \[0\]: .*mistake.*; members \[2\]: .*learning_rate"
    ):
        sweep.all_models()


def test_a_member_that_diverges_in_a_batch_leaves_the_others_alone(ds):
    rates = [1e-3, 1e-2]
    quiet = [Member(n, TRAIN, HELD_OUT, recipe(optimizer="sgd", learning_rate=r)) for n, r in enumerate(rates)]
    wild = Member(2, TRAIN, HELD_OUT, recipe(optimizer="sgd", learning_rate=1e200))
    sweep = fit_many(lambda: models.Linear(6, 3, 1), ds, [quiet[0], wild, quiet[1]], progress=False)
    assert sweep.how == ["batched"] * 3
    assert sweep.failed == [1]
    assert "lower learning_rate=1e+200" in sweep.errors[1]
    alone = fit_many(lambda: models.Linear(6, 3, 1), ds, quiet, batched="never", progress=False)
    np.testing.assert_allclose(sweep.scores[[0, 2]], alone.scores, rtol=1e-8)


def test_a_batch_that_breaks_down_is_fitted_one_by_one_from_the_start(ds, monkeypatch):
    members = [Member(n, TRAIN, HELD_OUT, recipe()) for n in range(3)]
    alone = fit_many(nrf, ds, members, batched="never", progress=False)

    def breaks_down(networks, *arguments):
        for network in networks:
            for p in network.parameters():
                p.data.zero_()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(many, "fit_batch", breaks_down)
    sweep = fit_many(nrf, ds, members, n_jobs=1, progress=False)
    assert "batched" not in sweep.how
    assert_same(sweep, alone)


def test_a_model_that_is_built_once_serves_all_members(ds):
    members = [Member(n, TRAIN, HELD_OUT, recipe()) for n in range(3)]
    torch.manual_seed(0)
    network = nrf()
    start = [p.clone() for p in network.parameters()]
    both(lambda: network, ds, members)
    assert all(torch.equal(p, first) for p, first in zip(network.parameters(), start))


def test_processes_give_the_same_and_survive_the_death_of_a_worker(ds):
    members = [Member(n, TRAIN, HELD_OUT, recipe(epochs=2)) for n in (0, 1)]
    built = [Careless(), Careless("dies")]
    sweep = fit_many(built, ds, members, n_jobs=2, n_retries=0, progress=False)
    assert sweep.how == ["process"] * 2
    assert sweep.failed == [1]
    assert "died" in sweep.errors[1]
    alone = fit_many(built[:1], ds, members[:1], batched="never", progress=False)
    np.testing.assert_allclose(sweep.scores[0], alone.scores[0], rtol=1e-6)


def test_a_cluster_gives_the_same(ds):
    distributed = pytest.importorskip("distributed", reason="needs strflab[cluster]")
    members = [Member(0, TRAIN, HELD_OUT, recipe(epochs=2))] * 2
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        sweep = fit_many([Careless(), Careless("fails")], ds, members, client=client, progress=False)
    assert sweep.how == ["cluster", "cluster"]
    assert sweep.failed == [1]
    assert sweep.attempts == [1, 2]


@pytest.mark.parametrize(
    ("neurons", "train", "message"),
    [(9, TRAIN, r"members\[0\].neurons"), (0, (8,), r"members\[0\].train"), ((0, 1), TRAIN, "out_neurons=1")],
)
def test_wrong_members_are_refused(ds, neurons, train, message):
    with pytest.raises(ValueError, match=message):
        fit_many(nrf, ds, [Member(neurons, train)], progress=False)


def test_wrong_arguments_are_refused(ds):
    with pytest.raises(ValueError, match="train"):
        Member(0, ())
    with pytest.raises(ValueError, match="neurons"):
        Member(1.5, TRAIN)
    with pytest.raises(ValueError, match="members"):
        fit_many(nrf, ds, [])
    with pytest.raises(ValueError, match="rate="):
        vary(Recipe(), rate=[1])
