"""Chapter 4's analysis on a small simulated set: the arrays it promises, and each of its parts."""

from __future__ import annotations

import numpy as np
import pytest

from strflab import data, metrics
from strflab.data import ns1
from strflab.fitting import fit
from strflab.papers import count_parameters, population
from strflab.papers import pennington2023 as paper

N, T, SEEDS, SHARES = 5, 100, (0, 1), (2,)


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=N, n_clips=20, seconds=T * 0.005, n_repeats=4)


@pytest.fixture(scope="module")
def result(ds, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRFLAB_RESULTS", str(tmp_path_factory.mktemp("results")))
        return paper.analyse(ds, seeds=SEEDS, epochs=1, shares=SHARES, n_jobs=1)


def test_every_array_of_the_chapter_is_there(result, ds):
    sizes = sum(len(family.sizes) for family in paper.FAMILIES.values())
    expected = {
        "frequencies": (34,),
        "in_paper": (N,),
        "seeds": (2,),
        "scores": (6, 2, N),
        "r_ceiling": (6, 2, N),
        "seconds": (6, 2),
        "size_family": (sizes,),
        "size_parameters": (sizes,),
        "size_scores": (sizes, 2, N),
        "half": (N,),
        "matched": (2, N),
        "held_out": (2, N),
        "shares": (2,),
        "share_scores": (4, 2, 2, N),
        "shown": (4,),
        "shown_psth": (4, 4, T),
        "shown_predictions": (6, 4, 4, T),
        "channels": (paper.N_FIELDS, 34, 30),
    }
    assert {name: array.shape for name, array in result.items()} == expected
    assert result["shares"].tolist() == [2, 16]
    assert all(np.isfinite(array).any() for array in result.values())


def test_full_size_is_the_last_size_and_all_clips_the_last_share(result):
    for i, name in enumerate(paper.NAMES):
        last = np.flatnonzero(result["size_family"] == i)[-1]
        np.testing.assert_array_equal(result["size_scores"][last], result["scores"][i])
        assert result["size_parameters"][last] == result["size_parameters"][result["size_family"] == i].max(), name
    for row, name in enumerate(paper.COMPARED):
        np.testing.assert_array_equal(result["share_scores"][row, -1], result["scores"][paper.NAMES.index(name)])
    np.testing.assert_array_equal(result["share_scores"][-1, -1], result["held_out"])


def test_verify_accepts_its_own_result_and_refuses_another(result, ds):
    paper.verify(result, ds)
    worse = result["scores"].copy()
    worse[2, 0, result["shown"][0]] += 0.01
    with pytest.raises(ValueError, match="'pop_ln' do not give their stored scores"):
        paper.verify(result | {"scores": worse}, ds)
    with pytest.raises(ValueError, match="shown_psth"):
        paper.verify(result | {"shown_psth": result["shown_psth"] + 0.1}, ds)


@pytest.mark.parametrize("name", paper.NAMES)
def test_filters_keep_their_milliseconds_and_a_neuron_its_parameters(name):
    family = paper.FAMILIES[name]
    n_neurons = 1 if family.alone else 119
    at_5_ms, at_10_ms = (paper.build(name, 34, n_neurons, dt_ms) for dt_ms in (5.0, 10.0))
    assert at_5_ms.memory == pytest.approx(2 * at_10_ms.memory, abs=4)
    counts = [count_parameters(paper.build(name, 34, n_neurons, size=size)) for size in range(len(family.sizes))]
    assert counts == sorted(counts)
    assert counts[-1] == count_parameters(at_5_ms)


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match="name='cnn3d'"):
        paper.build("cnn3d", 34, 1)
    with pytest.raises(ValueError, match="name='cnn3d'"):
        paper.recipe("cnn3d")


def test_fewer_clips_are_heard_more_often():
    full, few = paper.recipe("ln", 3), paper.recipe("ln", 3, n_clips=4)
    assert (full.seed, full.epochs, few.epochs) == (3, 40, 80)
    assert paper.recipe("ln", epochs=5).epochs == 5


def test_a_penetration_is_not_divided():
    folders = ["exp45/P07-SH.C.2.D", "exp45/P07-SH.C.U", "exp45/P10-SH.C.D", "dataAC/E1P04.R.SH", "dataAC/E1P04.L.SH"]
    neurons = [{"id": i, "path": f"{folder}/cluster.0{i}.data.mat"} for i, folder in enumerate(folders)]
    ds = data.NeuralDataset([np.zeros((2, 5))], [np.zeros((5, 1, 5))], 5, [500, 1000], neurons=neurons)
    half = paper.halves(ds)
    assert half[0] == half[1] != half[3] == half[4]
    assert np.bincount(half).tolist() == [3, 2] or np.bincount(half).tolist() == [2, 3]


def test_neurons_of_which_nothing_is_known_are_halved(ds):
    assert sorted(np.bincount(paper.halves(ds)).tolist()) == [2, 3]


def test_only_the_readouts_of_new_neurons_learn(ds):
    lab = paper._Lab(ds, "cpu", SEEDS, 1, 1)
    core, _ = lab.job(paper.CORE, 0, np.array([0, 1]))
    model, member = lab.transferred((np.array([0, 1]), [core], 0.0), np.array([0, 0, 1, 1, 1], bool), 0, lab.clips)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert member.neurons == (2, 3, 4)
    fit(model, lab.train.select(neurons=[2, 3, 4]), recipe=member.recipe, progress=False)
    for name, p in model.named_parameters():
        assert p.equal(before[name]) == name.startswith("core."), name
    assert all(p.equal(q) for p, q in zip(model.core.parameters(), core.core.parameters(), strict=True))


def test_clips_are_drawn_from_the_training_clips_and_nested(ds):
    lab = paper._Lab(ds, "cpu", SEEDS, 1, 1)
    few, more = lab.some(2, 0), lab.some(8, 0)
    assert len(more) == 8
    assert set(few) < set(more)
    assert not set(more) & set(ns1.TEST_CLIPS)
    assert lab.some(8, 1) != more


def test_the_papers_score_is_that_of_the_frames_that_are_scored(ds):
    lab = paper._Lab(ds, "cpu", SEEDS, 1, 1)
    model, _ = lab.job("pop_ln", 0)
    fitted = lab.scored, [model.eval()], 0.0
    skip = round(population.SKIPPED_MS / ds.dt_ms)
    expected = metrics.r_ceiling(
        [p[:, skip:] for p in population.predict(model, lab.test)], [r[..., skip:].numpy() for r in lab.test.responses]
    )
    np.testing.assert_allclose(lab.r_ceiling(fitted), expected)


def test_a_fit_that_failed_is_not_passed_over(ds):
    lab = paper._Lab(ds, "cpu", SEEDS, 1, 1)
    model, member = lab.job("pop_ln", 0)
    with pytest.raises(RuntimeError, match=r"1 of 1 fits failed: members \[0\]: "):
        lab.fit(
            {
                0: (
                    model,
                    paper.Member(
                        member.neurons, [0], recipe=paper.replace(member.recipe, loss="poisson_log", learning_rate=1e9)
                    ),
                )
            }
        )
