"""Receptive fields that are known are found again."""

import numpy as np
import pytest

from strflab import data
from strflab.reverse_correlation import RidgeSTRF


@pytest.mark.parametrize("model", ["linear", "ln"])
def test_strfs_are_recovered_from_twenty_minutes_of_sound(model):
    ds = data.load("simulated", n_neurons=8, n_clips=20, seconds=60.0, n_repeats=10, seed=0, model=model)
    fitted = RidgeSTRF(n_lags=ds.truth.strfs.shape[-1], smoothness=(1.5, 1.0)).fit(ds)
    truth = np.asarray(ds.truth.strfs, float)
    similarity = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(fitted.strf_, truth, strict=True)]
    assert np.mean(similarity) > 0.95
    assert np.sort(similarity)[1] > 0.95  # all but the noisiest neuron
