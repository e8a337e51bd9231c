"""Parts that remember how they were made."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from strflab import models
from strflab.layers import AdapTrans, Configurable, ParametricSTRF, Pointwise, SeparableSTRF, STRFKernel
from strflab.layers.config import from_config, make_part, to_config
from strflab.layers.strf import KERNELS


@pytest.mark.parametrize(
    "part", [SeparableSTRF(3, spectral="gaussian"), ParametricSTRF(num_gaussians=2), Pointwise("tanh"), AdapTrans(3)]
)
def test_round_trip_through_json(part):
    again = from_config(json.loads(json.dumps(part.config)))
    assert type(again) is type(part)
    assert again.config == part.config


def test_defaults_are_recorded():
    assert SeparableSTRF().config == {"type": "SeparableSTRF", "rank": 1, "spectral": "full"}


def test_the_outermost_constructor_is_recorded():
    class Base(Configurable):
        def __init__(self, a=1, **rest):
            self.a, self.rest = a, rest

    class Derived(Base):
        def __init__(self, b, *, c=(1, 2)):
            super().__init__(a=b + 1, d=c)

    assert Derived(2).config == {"type": "Derived", "b": 2, "c": [1, 2]}
    assert Base(5, e="x").config == {"type": "Base", "a": 5, "e": "x"}
    assert from_config(Derived(2).config).a == 3


def test_nested_parts_and_numbers_of_numpy():
    value = {"kernel": SeparableSTRF(2), "frequencies": np.array([1.0, 2.0]), "sizes": (torch.tensor(3), np.int64(4))}
    plain = to_config("options", value)
    assert plain["frequencies"] == [1.0, 2.0]
    assert plain["sizes"] == [3, 4]
    assert isinstance(from_config(plain)["kernel"], SeparableSTRF)


@pytest.mark.parametrize("value", [nn.Bilinear(1, 1, 1), lambda x: x, object()])
def test_what_cannot_be_saved_says_which_argument(value):
    with pytest.raises(ValueError, match=r"options\['activation'\]\[0\]="):
        to_config("options", {"activation": [value]})


def test_torch_nonlinearities_are_saved_by_name():
    assert to_config("output_activation", nn.Sigmoid()) == "sigmoid"


def test_short_names_are_left_to_the_constructor():
    assert from_config({"type": "separable", "rank": 2}) == {"type": "separable", "rank": 2}


def test_make_part():
    assert make_part("kernel", {"type": "separable", "rank": 2}, STRFKernel, KERNELS).rank == 2
    assert make_part("kernel", "SeparableSTRF", STRFKernel, KERNELS).rank == 1
    kernel = ParametricSTRF()
    assert make_part("kernel", kernel, STRFKernel, KERNELS) is kernel
    with pytest.raises(ValueError, match=r"kernel=.*'full', 'separable', 'parametric'"):
        make_part("kernel", "wavelet", STRFKernel, KERNELS)


@pytest.mark.parametrize("kind", ["ParametricSoftplus", "parametric_softplus"])
def test_part_asked_for_by_a_dict_comes_back_as_it_was_made(tmp_path, kind):
    model = models.Linear(out_neurons=3, output_activation={"type": kind, "slope": 2.0}).eval()
    model.save_pretrained(tmp_path)
    again = models.from_pretrained(tmp_path)
    assert again.readout.activation.config == model.readout.activation.config
    assert again.config == model.config
