"""The linear and the linear-nonlinear model."""

import pytest
import torch
import torch.nn.functional as F

from strflab import data, models
from strflab.papers import count_parameters
from strflab.reverse_correlation import RidgeSTRF


@pytest.mark.parametrize(("cls", "one", "many"), [("Linear", 309, 36_771), ("LinearNonlinear", 311, 37_009)])
def test_parameter_counts(cls, one, many):
    assert count_parameters(models.build(cls, norm="batch")) == one
    assert count_parameters(models.build(cls, norm="batch", out_neurons=119)) == many


@pytest.mark.parametrize("kernel", [None, "separable", "parametric"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_strf_weight_is_the_filter_that_is_applied(kernel, norm):
    model = models.Linear(6, 4, 3, kernel=kernel, norm=norm).double()
    if norm:
        with torch.no_grad():
            model.readout.norm.running_mean.normal_()
            model.readout.norm.running_var.uniform_(0.2, 3)
            model.readout.norm.weight.normal_()
    model.eval()
    x = torch.randn(2, 1, 6, 20, dtype=torch.float64)
    expected = F.conv2d(F.pad(x, (3, 0)), model.STRF_weight(), model.STRF_bias())
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model.STRF_gradmap(), model.STRF_weight())


def test_the_linear_model_has_no_nonlinearity_and_the_other_has():
    x = torch.randn(1, 1, 6, 20)
    assert (models.Linear(6, 4, 5)(x) < 0).any()
    assert (models.LinearNonlinear(6, 4, 5)(x) > 0).all()


def test_fields_found_in_closed_form_make_a_linear_model(tmp_path):
    ds = data.load("simulated", n_neurons=2, n_clips=4, seconds=1.0)
    ridge = RidgeSTRF(n_lags=5, cv=2).fit(ds)
    model = models.Linear.from_strf(ridge.strf_, ridge.intercept_)
    rates = [model(x[None, None])[0, :, 0].detach() for x in ds.stimuli]
    for rate, expected in zip(rates, ridge.predict(ds), strict=True):
        torch.testing.assert_close(rate.double(), torch.as_tensor(expected), rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert (models.from_pretrained(tmp_path).STRF_weight() == model.STRF_weight()).all()
    assert not model.training
    with pytest.raises(ValueError, match=r"strf of shape \(2, 3\).*must be \(N, F, T\)"):
        models.Linear.from_strf(torch.zeros(2, 3), torch.zeros(2))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"temporal_window_size": 0}, "temporal_window_size=0"),
        ({"n_frequency_bands": 2.5}, r"n_frequency_bands=2\.5"),
        ({"out_neurons": True}, "out_neurons=True"),
        ({"norm": "group"}, "norm='group'"),
        ({"output_activation": "step"}, "output_activation='step'"),
        ({"wav2spec": "no such"}, "wav2spec=.*'no such'"),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        models.Linear(**arguments)
