"""Hidden units of two networks are paired as trying every pairing would pair them."""

from itertools import permutations

import numpy as np
import pytest
import torch

from strflab import receptive_fields as rf


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("n_first", [2, 4, 5])
def test_pairs_are_the_best_of_all_pairings(n_first):
    rng = np.random.default_rng(n_first)
    first, second = rng.standard_normal((n_first, 3, 4)), rng.standard_normal((4, 3, 4))
    match = rf.match_units(first, torch.from_numpy(second))
    by_hand = [correlation(first[i], second[j]) for i, j in zip(match.first, match.second, strict=True)]
    np.testing.assert_allclose(match.sign * match.similarity, by_hand)
    table = np.abs([[correlation(a, b) for b in second] for a in first])
    few, many = sorted(table.shape)
    table = table if len(table) == few else table.T
    best = max(table[range(few), list(chosen)].sum() for chosen in permutations(range(many), few))
    assert match.similarity.sum() == pytest.approx(best)


def test_order_sign_and_scale_do_not_matter():
    fields = np.random.default_rng(0).standard_normal((4, 5, 6))
    shuffled, factor = np.array([2, 0, 3, 1]), np.array([1.0, -2.0, 3.0, -0.1])
    match = rf.match_units(fields, factor[:, None, None] * fields[shuffled] + 0.5)
    assert match.first.tolist() == [0, 1, 2, 3]
    assert match.second.tolist() == np.argsort(shuffled).tolist()
    assert match.sign.tolist() == np.sign(factor)[match.second].tolist()
    np.testing.assert_allclose(match.similarity, 1)


def test_unit_without_a_field_is_like_none():
    match = rf.match_units(np.zeros((1, 2, 3)), np.ones((2, 2, 3)))
    assert match.similarity.tolist() == [0]


def test_wrong_fields_are_refused():
    with pytest.raises(ValueError, match="first of shape"):
        rf.match_units(np.ones((2, 3)), np.ones((2, 2, 3)))
    with pytest.raises(ValueError, match="second of shape"):
        rf.match_units(np.ones((2, 2, 3)), np.ones((2, 3, 2)))
    with pytest.raises(ValueError, match="finite"):
        rf.match_units(np.full((2, 2, 3), np.nan), np.ones((2, 2, 3)))
