"""The dynamic network: its recursion frame by frame, both leaks, both orders."""

import pytest
import torch
import torch.nn.functional as F

from strflab.models import DNet
from strflab.papers import count_parameters


def leak(x, tau):
    """y[t] = (1 - 1/tau) y[t-1] + x[t] / tau from the steady state of the first frame; (B, H, T) and (H,)."""
    y = [x[..., 0]]
    for t in range(1, x.shape[-1]):
        y.append((1 - 1 / tau) * y[-1] + x[..., t] / tau)
    return torch.stack(y, -1)


def test_parameter_counts():
    assert count_parameters(DNet()) == 6221
    assert count_parameters(DNet(out_neurons=119)) == 8699
    assert count_parameters(DNet(out_neurons=119, output_decay=True)) == 8699 + 119
    assert len(DNet(output_decay=True).state_dict()) == len(list(DNet(output_decay=True).parameters()))


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("both", [True, False])
def test_it_is_the_equation(order, both):
    options = {"norm": False, "output_activation": "sigmoid", "output_decay": both, "leak": order}
    model = DNet(6, 4, 3, n_hidden=5, **options).double()
    with torch.no_grad():
        for decay in model.decays():
            decay.d.uniform_(0.2, 6)
    x = torch.randn(2, 1, 6, 80, dtype=torch.float64)
    u = F.conv2d(F.pad(x, (3, 0)), model.STRFs(), model.core[0].bias)[:, :, 0]
    u = leak(torch.sigmoid(u), model.tau) if order == "after" else torch.sigmoid(leak(u, model.tau))
    y = torch.einsum("nh,bht->bnt", model.readout.weight, u) + model.readout.fc.bias[:, None]
    if not both:
        y = torch.sigmoid(y)
    elif order == "after":
        y = leak(torch.sigmoid(y), model.decays()[1].tau)
    else:
        y = torch.sigmoid(leak(y, model.decays()[1].tau))
    torch.testing.assert_close(model(x)[:, :, 0], y)


def test_layernorm_stands_straight_after_the_filters():
    model = DNet(6, 4, 1, n_hidden=5).double()
    x = torch.randn(1, 1, 6, 20, dtype=torch.float64)
    u = F.layer_norm(model.core[0](x)[:, :, 0].mT, (5,)).mT.sigmoid()
    torch.testing.assert_close(model(x), model.readout(leak(u, model.tau).unsqueeze(2)))


def test_time_constants():
    model = DNet(n_hidden=2, out_neurons=3, init_tau=4.0, output_decay=True)
    hidden, output = model.decays()
    with torch.no_grad():
        hidden.d.copy_(torch.tensor([1.0, 3.0]))
        output.d.copy_(torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(model.tau, torch.tensor([2.0, 10.0]))
    torch.testing.assert_close(model.tau_ms(5.0), torch.tensor([10.0, 50.0]))
    torch.testing.assert_close(model.total_tau_ms(5.0), torch.tensor([[15.0, 55.0], [20.0, 60.0], [35.0, 75.0]]))
    torch.testing.assert_close(DNet(n_hidden=2, init_tau=4.0).total_tau_ms(1.0), torch.tensor([[4.0, 4.0]]))
    with pytest.raises(ValueError, match="dt_ms=0"):
        model.tau_ms(0)


def test_a_constant_sound_gives_a_constant_answer():
    model = DNet(6, 1, 2, init_tau=30.0, output_decay=True, output_activation="sigmoid")
    y = model(torch.randn(1, 1, 6, 1).expand(-1, -1, -1, 200))
    torch.testing.assert_close(y, y[..., :1].expand_as(y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"init_tau": 0.5}, r"init_tau=0\.5"),
        ({"leak": "both"}, "leak='both'"),
        ({"output_decay": 1}, "output_decay=1"),
        ({"decay_input": None}, "decay_input=None"),
        ({"n_hidden": 2.0}, r"n_hidden=2\.0"),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        DNet(**arguments)
