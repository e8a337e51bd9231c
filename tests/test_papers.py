"""The published models: their counts of parameters and what makes them the paper's own."""

import pytest
import torch

from strflab import models, papers
from strflab.layers import LearnableExponentialDecay

COUNTS = {
    "pennington2023_cnn1dx2": 104_985,
    "pennington2023_pop_ln": 109_365,
    "pennington2023_cnn1d": 121_045,
    "pennington2023_cnn2d": 102_015,
}


@pytest.mark.parametrize("name", COUNTS)
def test_pennington_population_counts(name):
    assert papers.count_parameters(getattr(papers, name)(849)) == COUNTS[name]


def test_pennington_single_neuron_counts():
    assert papers.count_parameters(papers.pennington2023_single_cnn()) == 179
    assert papers.count_parameters(papers.pennington2023_ln()) == 140
    assert papers.count_parameters(papers.pennington2023_ln(3)) == 3 * 140


@pytest.mark.parametrize("name", [*COUNTS, "pennington2023_single_cnn", "pennington2023_ln"])
def test_pennington_forms_run_and_may_go_below_zero(name):
    model = getattr(papers, name)(2)
    with torch.no_grad():
        model.readout.activation.raw_baseline.fill_(-5.0)
    y = model(torch.rand(1, 1, 18, 40))
    assert y.shape == (1, 2, 1, 40)
    assert (y < 0).all()


def test_pennington_ln_and_pop_ln_are_linear_before_the_output():
    for model in (papers.pennington2023_ln(2), papers.pennington2023_pop_ln(2)):
        assert model.STRF_weight().shape == (2, 1, 18, 25)
        assert torch.linalg.matrix_rank(model.STRF_weight().detach()).max() > 1


def test_harper_form():
    torch.manual_seed(0)
    model = papers.harper2016_nrf()
    assert model.memory == 20
    assert papers.count_parameters(model) == 20 * (34 * 20 + 1) + 20 + 1
    bound = 0.5 / (34 * 20 + 20) ** 0.5
    assert 0.9 * bound < model.STRFs().abs().max() <= bound
    assert model.readout.weight.abs().max() <= 0.5 / 21**0.5
    assert not model.readout.fc.bias.any()
    assert [layer.name for layer in model.modules() if hasattr(layer, "name")] == ["lecun_tanh", "sigmoid"]
    code = papers.harper2016_nrf(released_code=True)
    assert [layer.name for layer in code.modules() if hasattr(layer, "name")] == ["sigmoid", "sigmoid"]


@pytest.mark.parametrize("leak", ["after", "before"])
def test_rahman_form(leak):
    torch.manual_seed(0)
    model = papers.rahman2019_dnet(out_neurons=500, leak=leak)
    assert papers.count_parameters(model) == 20 * (34 * 5 + 1) + 20 + 500 * 21 + 500
    assert model.decays()[1].d.mean().item() == pytest.approx(2.0, rel=0.15)  # d ~ Exp(mean 2)
    one = papers.rahman2019_dnet(output_decay=False)
    assert sum(isinstance(layer, LearnableExponentialDecay) for layer in one.modules()) == 1
    assert papers.rahman2019_ln().memory == 40


def test_rates_of_the_logistic_forms_lie_between_zero_and_one():
    x = 10 * torch.randn(1, 1, 34, 60)
    for model in (papers.harper2016_nrf(), papers.rahman2019_dnet(), papers.rahman2019_dnet(leak="before")):
        y = model(x)
        assert ((y >= 0) & (y <= 1)).all()


@pytest.mark.skipif("StateNet" not in models.available(), reason="StateNet is not there")
@pytest.mark.parametrize(("dataset", "count"), [("ns1", 30_465), ("aa1_mld", 32_334), ("nat4_a1", 40_271)])
def test_rancon_counts(dataset, count):
    assert papers.count_parameters(papers.rancon2025_statenet(dataset)) == count


def test_rancon_of_an_unknown_data_set():
    with pytest.raises(ValueError, match="dataset='ns2'"):
        papers.rancon2025_statenet("ns2")
