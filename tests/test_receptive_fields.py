"""Fields along a sound against plain differentiation, dreams of models whose answer is known, measures by hand."""

import numpy as np
import pytest
import torch

from strflab import models
from strflab import receptive_fields as rf
from strflab.layers import S4
from strflab.receptive_fields import dynamic

F, T = 6, 30

ZOO = {
    "Linear": lambda: models.Linear(F, 4, 3),
    "LinearNonlinear, batch norm": lambda: models.LinearNonlinear(F, 4, 3, norm="batch"),
    "NRF": lambda: models.NetworkReceptiveField(F, 4, 3, n_hidden=5),
    "NRF, fewer units than neurons": lambda: models.NetworkReceptiveField(F, 4, 7, n_hidden=5),
    "DNet": lambda: models.DNet(F, 3, 4, n_hidden=3, init_tau=6.0),
    "DNet with a leak on the output": lambda: models.DNet(F, 3, 4, n_hidden=3, init_tau=6.0, output_decay=True),
    "ConvNet2D": lambda: models.ConvNet2D(9, None, 7, kernel_size=(3, 3), c_hidden=4, n_hidden=5),
    "ConvNet1D": lambda: models.ConvNet1D(F, (4, 3), 7, n_channels=(4, 5), n_hidden=6),
    "Transformer": lambda: models.Transformer(F, 3, embedding_dim=8, n_layers=2, time_patch_size=2),
    "Transformer with a window": lambda: models.Transformer(F, 3, embedding_dim=8, n_layers=2, context_window=4),
    "Linear behind two channels": lambda: models.Linear(F, 4, 2, prefiltering="adaptrans"),
}
for name in ("GRU", "LSTM", "LMU", "Mamba", "S4", "S4D"):
    ZOO[name] = lambda name=name: models.build(
        "StateNet", n_frequency_bands=F, out_neurons=3, kernel_size=3, stride=3, hidden_channels=3, rnn_type=name
    )
ZOO["S4 with a small state"] = lambda: models.build(
    "StateNet", n_frequency_bands=F, out_neurons=9, kernel_size=3, hidden_channels=2, rnn_type=S4(4, state_size=2)
)


def double(name):
    torch.manual_seed(0)
    return ZOO[name]().double().eval()


def sound(model, n_frames=T, seed=1):
    shape = (model.in_channels, model.n_frequency_bands, n_frames)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_channels(model, fields):
    return fields if model.in_channels > 1 else fields.unsqueeze(2)


# ---- dynamic receptive fields


@pytest.mark.parametrize("name", ["Linear", "NRF", "DNet", "GRU", "Transformer"])
def test_dynamic_fields_are_the_jacobian_of_the_whole_run(name):
    model = double(name)
    x, n_lags = sound(model, 16), 5
    jacobian = torch.autograd.functional.jacobian(lambda x: model.readout(model.core(x[None]))[0, :, 0], x)
    fields = with_channels(model, rf.dynamic_strfs(model, x, n_lags))  # (T, N, C, F, n_lags)
    for t in range(n_lags - 1, 16):
        torch.testing.assert_close(fields[t], jacobian[:, t, ..., t - n_lags + 1 : t + 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_dynamic_field_of_a_frame_is_the_gradient_map_of_the_sound_so_far(name):
    model = double(name)
    x, n_lags = sound(model), 12
    frames = [0, 1, 5, 10, 11, 12, 20, 29]
    fields = with_channels(model, rf.dynamic_strfs(model, x, n_lags, frames))
    expected = torch.stack([model.STRF_gradmap(x[..., : t + 1], n_lags) for t in frames])
    assert fields.shape == expected.shape
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(fields, expected, rtol=1e-8, atol=1e-11)


def test_dynamic_field_of_a_linear_model_is_its_filter_at_every_frame():
    model = double("Linear")
    fields = rf.dynamic_strfs(model, sound(model)[0].numpy())
    assert fields.shape == (T, 3, F, 4)
    torch.testing.assert_close(fields, model.STRF_weight()[:, 0].expand(T, -1, -1, -1).detach())


@pytest.mark.parametrize("name", ["NRF", "NRF, fewer units than neurons", "DNet", "Transformer"])
def test_frames_neurons_and_lags_are_chosen(name):
    model = double(name)
    x = sound(model)
    everything = rf.dynamic_strfs(model, x, 9)
    chosen = rf.dynamic_strfs(model, x, 9, frames=[20, 3, -1], neurons=np.array([2, 0]))
    torch.testing.assert_close(chosen, everything[[20, 3, 29]][:, [2, 0]])
    short = rf.dynamic_strfs(model, x, 2, frames=[20, 29])
    torch.testing.assert_close(short, everything[[20, 29]][..., -2:])
    assert rf.dynamic_strfs(model, x, 9, frames=[]).shape == (0, model.out_neurons, F, 9)
    assert rf.dynamic_strfs(model, x, 9, neurons=[]).shape == (T, 0, F, 9)


def test_beyond_the_memory_the_field_is_zero():
    model = double("NRF")
    fields = rf.dynamic_strfs(model, sound(model), 9)
    assert (fields[..., :5] == 0).all()
    assert fields[..., 5:].abs().sum() > 0


@pytest.mark.parametrize("name", ["NRF, fewer units than neurons", "ConvNet2D", "DNet", "GRU", "Transformer"])
def test_dynamic_fields_do_not_depend_on_how_the_work_is_cut(name, monkeypatch):
    model = double(name)
    whole = rf.dynamic_strfs(model, sound(model), 7)
    monkeypatch.setattr(dynamic, "WORKING_VALUES", 1)
    torch.testing.assert_close(rf.dynamic_strfs(model, sound(model), 7), whole)


@pytest.mark.parametrize("read", ["dynamic_strfs", "dream"])
@pytest.mark.parametrize("name", ["LinearNonlinear, batch norm", "GRU"])
def test_reading_leaves_no_trace(name, read):
    torch.manual_seed(0)
    model = ZOO[name]().train()
    model.readout.activation.eval()
    before, drawn = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    if read == "dream":
        found = rf.dream(model, 0, 6, steps=3).stimulus
    else:
        found = rf.dynamic_strfs(model, torch.randn(F, 9, generator=torch.Generator()), 3)
    assert not found.requires_grad
    assert model.training
    assert model.core.training
    assert not model.readout.activation.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_lags": None}, "n_lags=None"),
        ({"n_lags": 0}, "n_lags=0"),
        ({"frames": [30]}, r"frames\[0\]=30"),
        ({"frames": 3}, "frames=3"),
        ({"neurons": [0, 4]}, r"neurons\[1\]=4"),
        ({"stimulus": None}, "stimulus=None"),
        ({"stimulus": np.zeros((F + 1, T))}, "stimulus of shape"),
    ],
)
def test_dynamic_fields_refuse(options, message):
    model = double("DNet")
    with pytest.raises(ValueError, match=message):
        rf.dynamic_strfs(**{"model": model, "stimulus": sound(model), "n_lags": 5} | options)


# ---- dreams


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))


def test_dream_of_a_linear_neuron_is_its_filter():
    torch.manual_seed(0)
    model = models.Linear(8, 7, 4)
    dream = rf.dream(model, [0, 3], 7, size=2.0)
    weight = model.STRF_weight()[[0, 3], 0].detach()
    assert (cosine(dream.stimulus, weight) > 0.999).all()
    torch.testing.assert_close(dream.stimulus.flatten(1).norm(dim=1), torch.full((2,), 2.0))
    best = 2 * weight.flatten(1).norm(dim=1) + model.STRF_bias()[[0, 3]].detach()
    torch.testing.assert_close(dream.response[:, -1], best, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dream.response, model(dream.stimulus[:, None]).detach()[[0, 1], [0, 3], 0])


def test_dream_of_no_other_variance_is_the_filter_less_its_mean():
    torch.manual_seed(0)
    model = models.Linear(8, 7, 2)
    weight = model.STRF_weight()[:, 0].detach() + 0.1
    with torch.no_grad():
        model.readout.strf.kernel.weight[:, 0] = weight
    x = rf.dream(model, [0, 1], 7, constraint="variance", size=3.0).stimulus
    assert (cosine(x, weight - weight.mean((1, 2), keepdim=True)) > 0.999).all()
    torch.testing.assert_close(x.mean((1, 2)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.flatten(1).std(1, correction=0), torch.full((2,), 3.0))


def test_dream_between_two_levels_goes_to_the_one_that_the_filter_prefers():
    torch.manual_seed(0)
    model = models.Linear(8, 7)
    weight = model.STRF_weight()[0, 0].detach()
    x = rf.dream(model, 0, 7, constraint="level", size=(-1.0, 3.0)).stimulus[0]
    assert x.min() >= -1
    assert x.max() <= 3
    strong = weight.abs() > 0.2 * weight.abs().max()
    assert (x[strong & (weight > 0)] > 2.8).all()
    assert (x[strong & (weight < 0)] < -0.8).all()


def test_dreams_of_several_starts_keep_the_best():
    torch.manual_seed(0)
    model = models.NetworkReceptiveField(F, 5, 3, n_hidden=8)
    dream = rf.dream(model, [2, 1], 5, n_starts=4, steps=60)
    assert dream.neurons == [2, 1]
    assert dream.history.shape == (60, 2, 4)
    assert (dream.response[:, -1] >= dream.history[-1].amax(1) - 1e-3).all()
    assert (dream.history[-1] > dream.history[0]).all()
    with torch.no_grad():
        random = torch.randn(500, 1, F, 5, generator=torch.Generator().manual_seed(3))
        rates = model(random * (30**0.5 / random.flatten(1).norm(dim=1)[:, None, None, None]))[..., 0, -1]
    assert (dream.response[:, -1] > rates[:, [2, 1]].amax(0)).all()


def test_dreams_are_the_same_of_the_same_seed():
    model = models.NetworkReceptiveField(F, 5, 2)
    first, again, other = (rf.dream(model, 0, 5, steps=5, seed=s).stimulus for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_smooth_dream_of_a_linear_neuron_is_the_slow_part_of_its_filter():
    from scipy.fft import dctn, idctn

    torch.manual_seed(0)
    model = models.Linear(12, 10)
    coefficients = dctn(model.STRF_weight()[0, 0].detach().numpy(), norm="ortho")
    coefficients[7:] = 0  # the 6th cosine over 12 bands has a period of 4, the 4th over 10 frames one of 5
    coefficients[:, 5:] = 0
    slow = torch.tensor(idctn(coefficients, norm="ortho")).float()
    x = rf.dream(model, 0, 10, smoothness=(4, 5), size=2.0).stimulus
    assert cosine(x, slow[None]) > 0.999
    torch.testing.assert_close(x.norm(), torch.tensor(2.0))


def test_dream_of_the_mean_rate_drives_all_frames():
    torch.manual_seed(0)
    model = models.DNet(F, 3, 1, n_hidden=4)
    last, mean = (rf.dream(model, 0, 30, objective=o, steps=200).response[0] for o in ("last", "mean"))
    assert mean.mean() > last.mean()
    assert last[-1] > mean[-1]


def test_dream_of_a_prefiltered_model_has_its_channels():
    assert rf.dream(ZOO["Linear behind two channels"](), 1, 4, steps=2).stimulus.shape == (1, 2, F, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neurons": 9}, r"neurons\[0\]=9"),
        ({"n_frames": 0}, "n_frames=0"),
        ({"objective": "first"}, "objective="),
        ({"constraint": "loud"}, "constraint="),
        ({"size": 0}, "size=0"),
        ({"constraint": "level", "size": 3}, "size=3"),
        ({"constraint": "level", "size": (1, 1)}, r"size\[1\]=1"),
        ({"smoothness": 1.0}, "smoothness=1.0"),
        ({"smoothness": (1, -1)}, r"smoothness\[1\]=-1"),
        ({"steps": 0}, "steps=0"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"n_starts": 0}, "n_starts=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_dreams_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        rf.dream(**{"model": models.Linear(F, 3, 2), "neurons": 0, "n_frames": 4} | options)


# ---- gradient energy


def test_energy_of_an_exponential_has_its_time_constant():
    tau = 30.0
    field = np.exp(-np.arange(600)[::-1] / tau) * np.ones((4, 1))
    energy = rf.gradient_energy(torch.tensor(field), dt_ms=2.0)
    assert energy.energy.shape == energy.lags.shape == (600,)
    assert energy.energy.sum() == pytest.approx(1)
    assert energy.energy[0] == energy.energy.max()
    assert energy.memory == pytest.approx(2.0 * tau / 2 * np.log(20), abs=2.0)
    assert energy.mean_lag == pytest.approx(2.0 * tau / 2, abs=1.5)


def test_energy_of_one_tap():
    fields = np.zeros((3, 2, 5))
    fields[0, 1, -1] = -1e-200  # at lag 0, and small enough for its square to vanish
    fields[1, :, 1] = 3.0  # at lag 3
    energy = rf.gradient_energy(fields, dt_ms=5.0)
    assert energy.energy[0].tolist() == [1, 0, 0, 0, 0]
    assert energy.memory[:2].tolist() == [5.0, 20.0]
    assert energy.mean_lag[:2].tolist() == [0.0, 15.0]
    assert np.isnan([energy.memory[2], energy.mean_lag[2], *energy.energy[2]]).all()


def test_energy_within_a_fraction():
    field = np.sqrt([[1.0, 2.0, 3.0, 4.0]])  # from lag 0 on 40, 30, 20 and 10 % of the energy
    assert [rf.gradient_energy(field, 1.0, p).memory for p in (0.4, 0.41, 0.7, 0.95, 1.0)] == [1, 2, 2, 4, 4]
    with pytest.raises(ValueError, match="fraction=0"):
        rf.gradient_energy(field, 1.0, 0)


# ---- tuning

BANDS = 500 * 2 ** (np.arange(49) / 8)  # 8 bands an octave, six octaves
OCTAVES = np.log2(BANDS / BANDS[0])
DT = 5.0
LAGS = np.arange(40)[::-1] * DT  # ms


def gaussian(centre, sd, lag, sd_lag):
    """Field with its peak at an octave and a lag (ms)."""
    spectral = np.exp(-0.5 * ((OCTAVES - centre) / sd) ** 2)
    return spectral[:, None] * np.exp(-0.5 * ((LAGS - lag) / sd_lag) ** 2)


def gabor(density, rate):
    """Ripple under a wide Gaussian: it falls where density and rate have one sign."""
    phase = density * OCTAVES[:, None] - rate * LAGS / 1000
    return gaussian(3.0, 1.2, 97.5, 35.0) * np.cos(2 * np.pi * phase)


def test_measures_of_a_gaussian():
    centre, sd, lag = 2.31, 0.4, 42.0
    field = gaussian(centre, sd, lag, 12.0)
    assert rf.best_frequency(field, BANDS) == pytest.approx(500 * 2**centre, rel=2e-3)
    assert rf.best_frequency(field, BANDS, interpolate=False) == pytest.approx(BANDS[18], rel=1e-9)
    assert rf.bandwidth(field, BANDS) == pytest.approx(2 * np.sqrt(2 * np.log(2)) * sd, rel=5e-3)
    assert rf.latency(field, DT) == pytest.approx(lag, abs=0.1)
    assert rf.latency(field, DT, interpolate=False) == 40.0
    assert rf.separability(field) == pytest.approx(1)
    assert rf.excitation_inhibition(field) == 1


def test_inhibition_does_not_move_the_excitatory_peak():
    field = gaussian(2.0, 0.3, 30.0, 8.0) - 3 * gaussian(5.0, 0.3, 120.0, 8.0)
    assert rf.best_frequency(field, BANDS) == pytest.approx(2000, rel=2e-3)
    assert rf.latency(field, DT) == pytest.approx(30.0, abs=0.1)
    assert rf.excitation_inhibition(field) == pytest.approx(-0.5, abs=1e-3)


def test_bands_evenly_spaced_in_hertz():
    f = np.linspace(250, 8000, 63)
    field = np.exp(-0.5 * ((f - 3000) / 500) ** 2)[:, None] * np.ones((1, 3))
    assert rf.best_frequency(field, f) == pytest.approx(3000, rel=1e-3)
    half = 500 * np.sqrt(2 * np.log(2))
    assert rf.bandwidth(field, f) == pytest.approx(np.log2((3000 + half) / (3000 - half)), rel=5e-3)


def test_a_width_that_the_bands_do_not_hold_is_no_number():
    assert np.isnan(rf.bandwidth(gaussian(0.1, 0.5, 40.0, 8.0), BANDS))
    assert rf.best_frequency(gaussian(-1.0, 0.5, 40.0, 8.0), BANDS) == 500


def test_separability_is_the_share_of_the_first_singular_value():
    field = np.zeros((4, 5))
    field[0, 0], field[1, 1], field[2, 2] = 3.0, -2.0, 1.0
    assert rf.separability(field) == pytest.approx(9 / 14)
    assert rf.separability(np.eye(4)) == pytest.approx(1 / 4)


@pytest.mark.parametrize(("density", "rate"), [(0.6, 12.0), (0.6, -12.0), (1.2, 6.0)])
def test_transfer_function_of_a_ripple_peaks_at_its_modulations(density, rate):
    transfer = rf.modulation_transfer_function(gabor(density, rate), DT, BANDS)
    best_rate, best_density = transfer.peak()
    assert transfer.unit == "octave"
    assert best_density == pytest.approx(density, abs=0.09)
    assert best_rate == pytest.approx(abs(rate), abs=2.6)
    assert transfer.direction() * np.sign(rate) > 0.9


def test_transfer_function_is_the_gain_for_ripples_that_are_played():
    """Against the definition, a sum over the field, at some ripples of the grid."""
    field = np.random.default_rng(0).normal(size=(49, 40))
    transfer = rf.modulation_transfer_function(field, DT, BANDS, padding=1)
    assert transfer.gain.shape == (25, 41)
    for i, j in [(0, 20), (3, 5), (24, 40), (10, 30)]:
        phase = transfer.densities[i] * OCTAVES[:, None] - transfer.rates[j] * LAGS / 1000
        assert transfer.gain[i, j] == pytest.approx(abs((field * np.exp(-2j * np.pi * phase)).sum()))


def test_transfer_functions_of_other_axes():
    f = np.linspace(250, 8000, 63)
    field = np.cos(2 * np.pi * 0.5 * f / 1000)[:, None] * np.ones((1, 4))
    transfer = rf.modulation_transfer_function(field, DT, f)
    assert transfer.unit == "kHz"
    assert transfer.peak()[1] == pytest.approx(0.5, abs=0.05)
    erb = 228.8 * (np.exp(np.linspace(9, 33, 60) / 9.26) - 1)  # even neither in octaves nor in Hz
    field = np.cos(2 * np.pi * 0.8 * np.log2(erb))[:, None] * np.ones((1, 4))
    transfer = rf.modulation_transfer_function(field, DT, erb)
    assert transfer.unit == "octave"
    assert transfer.peak()[1] == pytest.approx(0.8, abs=0.08)


def test_a_field_without_direction():
    assert rf.modulation_transfer_function(gaussian(3.0, 0.5, 80.0, 20.0), DT, BANDS).direction() == pytest.approx(0)


def test_tuning_is_a_table_of_all_measures():
    fields = np.stack([gaussian(2.0, 0.4, 40.0, 10.0), gabor(0.6, 12.0), np.zeros((49, 40)), -gaussian(2, 0.4, 40, 10)])
    table = rf.tuning(torch.tensor(fields), DT, BANDS)
    assert table.best_frequency.shape == (4,)
    for i, record in enumerate(table.records()):
        alone = rf.tuning(fields[i], DT, BANDS).records()[0]
        np.testing.assert_allclose(list(record.values()), list(alone.values()), atol=1e-12)
    assert all(np.isnan(v) for v in table.records()[2].values())
    inhibitory = table.records()[3]
    assert np.isnan([inhibitory["best_frequency"], inhibitory["bandwidth"], inhibitory["latency"]]).all()
    assert inhibitory["excitation_inhibition"] == -1
    assert rf.tuning(fields.reshape(2, 2, 49, 40), DT, BANDS).latency.shape == (2, 2)


@pytest.mark.parametrize(
    ("field", "frequencies", "message"),
    [
        (np.zeros(5), [500.0, 1000.0], "field of shape"),
        (np.full((2, 3), np.nan), [500.0, 1000.0], "field: must be finite"),
        (np.zeros((2, 3)), [500.0], "frequencies="),
        (np.zeros((2, 3)), [1000.0, 500.0], "frequencies="),
        (np.zeros((2, 3)), [0.0, 500.0], "frequencies="),
        (np.zeros((1, 3)), [500.0], "at least two"),
    ],
)
def test_tuning_refuses(field, frequencies, message):
    with pytest.raises(ValueError, match=message):
        rf.tuning(field, DT, frequencies)
    with pytest.raises(ValueError, match="dt_ms=0"):
        rf.latency(np.zeros((2, 3)), 0)


# ---- hidden units


def test_effective_units_carry_a_share_of_the_weights():
    weights = torch.tensor([[0.0, -6.0, 0.5, 1.0, 2.5], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert rf.effective_units(weights).tolist() == [1, 4, 3, 2]  # 60, 25, 10 and just 5 %
    assert rf.effective_units(weights, threshold=0.051).tolist() == [1, 4, 3]
    assert rf.effective_units(weights, neuron=1).tolist() == []
    assert rf.effective_units(weights, threshold=0).tolist() == [1, 4, 3, 2]


def test_effective_units_of_a_model():
    model = models.NetworkReceptiveField(F, 4, 2, n_hidden=3)
    with torch.no_grad():
        model.readout.fc.weight[:] = torch.tensor([[1.0, 0.01, -2.0], [0.0, 1.0, 0.0]])
    assert rf.effective_units(model, 0).tolist() == [2, 0]
    assert rf.effective_units(model, 1).tolist() == [1]
    with pytest.raises(ValueError, match="neuron=2"):
        rf.effective_units(model, 2)
    with pytest.raises(ValueError, match="threshold=2"):
        rf.effective_units(model, 0, 2)
    with pytest.raises(ValueError, match="model=Linear"):
        rf.effective_units(models.Linear(F))


def test_ie_scores_have_the_sign_of_what_the_neuron_hears():
    fields = np.stack([np.ones((2, 3)), -np.ones((2, 3)), [[1, 1, 1], [-1, 0, 0]], np.zeros((2, 3))])
    weights = [[2.0, -2.0, -1.0, 1.0], [-1.0, 3.0, 0.0, 0.0]]
    np.testing.assert_allclose(rf.ie_scores(fields, weights), [[1, 1, -0.5, np.nan], [-1, -1, 0, np.nan]])
    with pytest.raises(ValueError, match="weights of shape"):
        rf.ie_scores(fields, [1.0, 2.0])
