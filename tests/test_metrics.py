"""Noise ceilings and correlations against plain NumPy, the true rate, and what went wrong elsewhere."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strflab import metrics
from strflab.metrics.noise_ceiling import half_splits

CENTRES = ("concatenated", "clip")
NOISE_CORRECTED = ("normalized_corrcoef", "signal_power_explained")


def simulate(B=6, N=8, R=6, T=200, between=0.0, shape=0.7, seed=0):
    """Rates (B, N, 1, T) with log-normal clip means of sd `between`, and Poisson counts (B, N, R, T)."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(shape, 0.6, (B, N, 1, T)) * np.exp(between * rng.standard_normal((B, 1, 1, 1)))
    return rate, rng.poisson(rate, (B, N, R, T)).astype(float)


def drop(counts, seed=0, share=0.1):
    """Scatter NaN over repeats and frames."""
    counts = counts.copy()
    counts[np.random.default_rng(seed).random(counts.shape) < share] = np.nan
    return counts


def joined(x):
    """(B, N, R, T) -> (N, R, B T)."""
    return x.transpose(1, 2, 0, 3).reshape(x.shape[1], x.shape[2], -1)


def classical(x):
    """Sahani & Linden on (R, T): signal and noise power."""
    R = len(x)
    total = x.var(1).mean()
    signal = (R * x.mean(0).var() - total) / (R - 1)
    return signal, total - signal


def plain_signal(x, clip, centre):
    """Signal power of (R, T) with NaN, frame by frame; clip (T,) numbers the clips."""
    R = (~np.isnan(x)).sum(0)
    x, clip, R = x[:, R >= 2], clip[R >= 2], R[R >= 2]
    if centre == "concatenated":
        clip = np.zeros_like(clip)
    y, s2 = np.nanmean(x, 0), np.nanvar(x, 0, ddof=1)
    e = np.nan_to_num(x - y) * np.sqrt(R / (R - 1)) / R
    power = 0.0
    for k in np.unique(clip):
        i = clip == k
        noise = (s2 / R)[i].sum() - (e[:, i].sum(1) ** 2).sum() / i.sum()
        power += ((y[i] - y[i].mean()) ** 2).sum() - noise
    return power / len(y)


@pytest.mark.parametrize("centre", CENTRES)
def test_even_repeats_give_the_classical_powers_exactly(centre):
    _, x = simulate(between=0.5)
    flat = joined(x - x.mean(-1, keepdims=True) if centre == "clip" else x)
    expected = np.array([classical(r) for r in flat]).T
    np.testing.assert_allclose(metrics.signal_power(x, centre=centre), expected[0], rtol=1e-12)
    np.testing.assert_allclose(metrics.noise_power(x, centre=centre), expected[1], rtol=1e-12)
    np.testing.assert_allclose(metrics.snr(x, centre=centre), expected[0] / expected[1], rtol=1e-11)
    np.testing.assert_allclose(metrics.noise_ratio(x, centre=centre), expected[1] / expected[0], rtol=1e-11)
    variance = flat.mean(1).var(-1)
    np.testing.assert_allclose(metrics.ccmax(x, centre=centre), np.sqrt(expected[0] / variance), rtol=1e-12)


@pytest.mark.parametrize("centre", CENTRES)
def test_frame_by_frame_sums_equal_the_classical_powers_too(centre, monkeypatch):
    """The path for ragged repeats, given even ones, is the classical formula as well."""
    from strflab.metrics import _moments

    rate, x = simulate()
    fast = metrics.scores(rate, x, centre=centre)
    monkeypatch.setattr(_moments._Pass, "add", ragged_add)
    for name, value in metrics.scores(rate, x, centre=centre).items():
        np.testing.assert_allclose(value, fast[name], rtol=1e-10, err_msg=name)


def ragged_add(self, x, p):
    self.add_ragged(torch.arange(len(x)), x, p, ~x.isnan())


@pytest.mark.parametrize("centre", CENTRES)
def test_signal_power_of_ragged_repeats_equals_the_plain_reference(centre):
    _, x = simulate(R=4)
    x = drop(x, share=0.3)  # some frames keep one repeat or none
    x[2, :, 1:] = np.nan
    clip = np.repeat(np.arange(x.shape[0]), x.shape[-1])
    expected = [plain_signal(r, clip, centre) for r in joined(x)]
    np.testing.assert_allclose(metrics.signal_power(x, centre=centre), expected, rtol=1e-11)


@pytest.mark.parametrize("centre", CENTRES)
def test_scores_equal_plain_numpy(centre):
    rate, x = simulate(between=0.3)
    p = rate + 0.5 * np.random.default_rng(1).standard_normal(rate.shape)
    found = metrics.scores(p, x, centre=centre)
    if centre == "clip":
        p, x = p - p.mean(-1, keepdims=True), x - x.mean(-1, keepdims=True)
    for n, (q, r) in enumerate(zip(joined(p)[:, 0], joined(x))):
        y, (signal, noise) = r.mean(0), classical(r)
        trials = np.corrcoef(np.vstack([q, r]))
        expected = {
            "corrcoef": np.corrcoef(y, q)[0, 1],
            "corrcoef_per_trial": trials[0, 1:].mean(),
            "normalized_corrcoef": np.cov(y, q, ddof=0)[0, 1] / np.sqrt(q.var() * signal),
            "r_ceiling": trials[0, 1:].mean() / np.sqrt(trials[1:, 1:][np.triu_indices(len(r), 1)].mean()),
            "fve": 1 - (y - q).var() / y.var(),
            "signal_power_explained": (y.var() - (y - q).var()) / signal,
            "ccmax": np.sqrt(signal / y.var()),
            "ccmax_split_half": plain_split_half(r),
            "signal_power": signal,
            "noise_power": noise,
            "snr": signal / noise,
            "noise_ratio": noise / signal,
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][n], value, rtol=1e-10, err_msg=name)


def plain_split_half(r):
    """Hsu et al. (2004) on an even number of repeats (R, T), over all splits."""
    R = len(r)
    halves = [h for h in itertools.combinations(range(R), R // 2) if 0 in h]
    c = np.mean([np.corrcoef(r[list(h)].mean(0), np.delete(r, h, 0).mean(0))[0, 1] for h in halves])
    return np.sqrt(2 / (1 + 1 / c))


def test_each_function_gives_the_value_that_scores_has():
    rate, x = simulate(R=5)
    x[0, :, 1:, 50:] = np.nan  # frames with one repeat, which the raw scores alone use
    found = metrics.scores(rate, x, n_splits=7, seed=3)
    of_both = ("corrcoef", "normalized_corrcoef", "r_ceiling", "fve", "signal_power_explained")
    alone = {name: getattr(metrics, name)(rate, x) for name in of_both}
    alone |= {
        name: getattr(metrics, name)(x) for name in ("signal_power", "noise_power", "snr", "noise_ratio", "ccmax")
    }
    alone["corrcoef_per_trial"] = metrics.corrcoef(rate, x, per_trial=True)
    alone["ccmax_split_half"] = metrics.ccmax_split_half(x, n_splits=7, seed=3)
    assert alone.keys() == found.keys()
    for name, value in alone.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)
    y = metrics.psth(x).transpose(1, 0, 2).reshape(x.shape[1], -1)
    np.testing.assert_allclose(found["corrcoef"], [np.corrcoef(a, b)[0, 1] for a, b in zip(y, joined(rate)[:, 0])])


def uneven(x, rng):
    x[:3, :, 4:] = np.nan  # whole repeats
    x[3, ::2, 1:] = np.nan  # a single one, for half of the neurons, on a clip
    x[4, 5, 0, 100:] = np.nan  # short
    x[5] = np.nan  # none at all
    return x


MISSING = {
    "even": lambda x, rng: x,
    "uneven repeats": uneven,
    "scattered": lambda x, rng: np.where(rng.random(x.shape) < 0.3, np.nan, x),
}


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("missing", ["even", "uneven repeats", "scattered"])
@pytest.mark.parametrize("masked", [None, "frames", "neurons"])
def test_true_rate_scores_one_whatever_is_missing(centre, missing, masked):
    """Between-clip variance is large throughout: clip means differ by a factor of e."""
    rng = np.random.default_rng(5)
    rate, x = simulate(B=12, N=40, R=8, T=400, between=1.0, seed=7)
    x = MISSING[missing](x, rng)
    mask = {
        None: None,
        "frames": rng.random((12, 400)) < 0.5,
        "neurons": np.broadcast_to(rate[:, :, 0] < 1.5, (12, 40, 400)),
    }[masked]
    for name in NOISE_CORRECTED:
        score = getattr(metrics, name)(rate, x, mask=mask, centre=centre)
        assert score.std() / np.sqrt(40) < 0.005
        assert score.mean() == pytest.approx(1, abs=0.02), name


@pytest.mark.parametrize("centre", CENTRES)
def test_repeats_that_depend_on_the_rate_do_not_bias(centre):
    """High-rate clips, noisier, have two repeats or one: noise is not borrowed from the others."""
    rate, x = simulate(B=12, N=40, R=8, T=400, seed=8)
    rate[::2] *= 5
    x[::2] = np.random.default_rng(1).poisson(np.broadcast_to(rate, x.shape)[::2])
    x[::4, :, 1:] = np.nan
    x[2::4, :, 2:] = np.nan
    for name in NOISE_CORRECTED:
        score = getattr(metrics, name)(rate, x, centre=centre)
        assert score.mean() == pytest.approx(1, abs=0.02), name


@pytest.mark.parametrize("missing", ["even", "uneven repeats", "scattered"])
def test_slow_noise_does_not_bias_signal_power(missing):
    """A trial's offset, of 9 times the signal's power, leaves with the mean: it is not to be taken off again."""
    rng = np.random.default_rng(0)
    rate = rng.standard_normal((6, 600, 1, 150))
    x = rate + rng.standard_normal((6, 600, 8, 150)) + 3 * rng.standard_normal((1, 600, 8, 1))
    x = drop(x) if missing == "scattered" else MISSING[missing](x, rng)
    power = metrics.signal_power(x)
    assert power.std() / np.sqrt(600) < 0.02
    assert power.mean() == pytest.approx(1, abs=0.04)


def test_single_repeat_frames_count_in_raw_scores_only():
    rate, x = simulate(R=3)
    x[0, :, 1:] = np.nan
    np.testing.assert_allclose(metrics.signal_power(x), metrics.signal_power(x[1:]), rtol=1e-12)
    np.testing.assert_allclose(
        metrics.normalized_corrcoef(rate, x), metrics.normalized_corrcoef(rate[1:], x[1:]), rtol=1e-12
    )
    y = np.nanmean(x, 2, keepdims=True)
    np.testing.assert_allclose(metrics.corrcoef(rate, x), metrics.corrcoef(rate, y), rtol=1e-12)
    assert np.isnan(metrics.signal_power(x[:, :, :1])).all()


def test_cached_signal_power_scores_a_psth():
    rate, x = simulate()
    power = metrics.signal_power(x)
    from_psth = metrics.normalized_corrcoef(rate, metrics.psth(x), signal_power=power)
    np.testing.assert_allclose(from_psth, metrics.normalized_corrcoef(rate, x), rtol=1e-12)
    with pytest.raises(ValueError, match="signal_power"):
        metrics.normalized_corrcoef(rate, x, signal_power=power[:2])


# What went wrong elsewhere


@pytest.mark.parametrize("centre", CENTRES)
def test_between_clip_variance_is_in_numerator_and_signal_power_alike(centre):
    """SP centred by clip under a numerator centred over clips once gave the true rate 1.4 to 7."""
    rate, x = simulate(B=12, N=40, R=10, T=300, between=1.0, shape=4.0, seed=3)
    assert metrics.normalized_corrcoef(rate, x, centre=centre).mean() == pytest.approx(1, abs=0.02)
    mixed = metrics.normalized_corrcoef(rate, x, signal_power=metrics.signal_power(x, centre="clip"))
    assert mixed.mean() > 1.4


def test_mask_is_honoured_in_signal_power():
    rate, x = simulate()
    mask = np.random.default_rng(0).random((6, 200)) < 0.4
    kept = [r[..., m] for r, m in zip(x, mask)]
    rates = [p[:, 0, m] for p, m in zip(rate, mask)]
    assert not np.allclose(metrics.signal_power(x, mask=mask), metrics.signal_power(x), rtol=0.01)
    expected = metrics.scores(rates, kept)
    for shape in (mask, np.repeat(mask[:, None], 8, 1)):
        for name, value in metrics.scores(rate, x, mask=shape).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-10, err_msg=name)


def test_one_short_repeat_does_not_turn_a_neuron_into_nan():
    rate, x = simulate()
    whole = metrics.scores(rate, x)
    x[3, 2, 4, 150:] = np.nan
    for name, value in metrics.scores(rate, x).items():
        assert np.isfinite(value).all(), name
        assert value[2] == pytest.approx(whole[name][2], rel=0.05), name
        others = np.arange(8) != 2
        np.testing.assert_allclose(value[others], whole[name][others], rtol=1e-12, err_msg=name)


def test_half_splits_are_drawn_at_random_and_distinct():
    splits = half_splits(20, 126, seed=0).numpy()
    assert splits.shape == (126, 20)
    assert (splits.sum(1) == 10).all()
    assert len({s.tobytes() for s in splits}) == 126
    # In order, the first 126 combinations all hold repeats 0 to 5; at random each is in half of them.
    assert (splits[:, 0] == 1).all()
    share = splits[:, 1:].mean(0)
    assert share.min() > 0.25
    assert share.max() < 0.75
    assert (half_splits(20, 126, seed=0) == half_splits(20, 126, seed=0)).all()
    assert not (half_splits(20, 126, seed=0) == half_splits(20, 126, seed=1)).all()


@pytest.mark.parametrize(("n_repeats", "total"), [(2, 1), (3, 3), (4, 3), (5, 10), (10, 126)])
def test_half_splits_are_all_of_them_when_there_are_few(n_repeats, total):
    splits = half_splits(n_repeats, 126, seed=0).numpy()
    assert len({tuple(s) for s in splits}) == len(splits) == total
    assert (splits.sum(1) == n_repeats // 2).all()
    mirrored = {tuple(1 - s) for s in splits}
    assert not mirrored & {tuple(s) for s in splits}


# Split halves


@pytest.mark.parametrize("repeats", [2, 3, 7, 12])
def test_split_half_ceiling_agrees_with_signal_power_whatever_the_repeats(repeats):
    _, x = simulate(N=30, R=repeats, T=600)
    assert metrics.ccmax_split_half(x).mean() == pytest.approx(metrics.ccmax(x).mean(), abs=0.01)


def test_split_half_correlations_of_ragged_repeats_equal_a_loop_over_splits():
    _, x = simulate(R=5, N=4)
    x[1, :, 3:] = np.nan
    x[2, :2] = drop(x[2, :2], share=0.2)
    x[3, 1, 2, 60:] = np.nan
    splits = half_splits(5, 126, 0).numpy().astype(bool)
    for n, r in enumerate(joined(x)):
        c, per_a, per_b, per_all = [], [], [], []
        for s in splits:
            n_a, n_b = (~np.isnan(r[s])).sum(0), (~np.isnan(r[~s])).sum(0)
            on = (n_a > 0) & (n_b > 0)
            c.append(np.corrcoef(np.nanmean(r[s][:, on], 0), np.nanmean(r[~s][:, on], 0))[0, 1])
            per_a.append(1 / n_a[on]), per_b.append(1 / n_b[on]), per_all.append(1 / (n_a + n_b)[on])
        c, a, b, both = np.mean(c), *(np.concatenate(v).mean() for v in (per_a, per_b, per_all))
        noise = np.roots([a * b, a + b, 1 - c**-2]).max()
        assert metrics.ccmax_split_half(x)[n] == pytest.approx(1 / np.sqrt(1 + noise * both), rel=1e-10)


# Undefined scores


@pytest.mark.filterwarnings("error")
def test_no_signal_gives_nan_not_infinity():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (2, 40, 4, 100)).astype(float)
    x[:, 0] = 0  # silent
    x[:, 1] = 0.1  # constant
    found = metrics.scores(rng.random((2, 40, 1, 100)), x)
    none = found["signal_power"] <= 0
    assert none[:2].all()
    assert 5 < none.sum() < 35
    for name in ("normalized_corrcoef", "signal_power_explained", "snr", "noise_ratio", "ccmax"):
        assert np.isnan(found[name][none]).all(), name
        assert np.isfinite(found[name][~none]).all(), name
    for name in ("corrcoef", "corrcoef_per_trial", "fve", "r_ceiling", "ccmax_split_half"):
        assert np.isnan(found[name][:2]).all(), name
    assert np.isfinite(found["fve"][2:]).all()


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_constant_prediction_has_no_correlation_and_explains_nothing(centre, share):
    rate, x = simulate()
    p = np.full_like(rate, 0.1)
    if centre == "clip":
        p = p * np.arange(1, 7)[:, None, None, None]
    found = metrics.scores(p, drop(x, share=share), centre=centre)
    for name in ("corrcoef", "corrcoef_per_trial", "normalized_corrcoef", "r_ceiling"):
        assert np.isnan(found[name]).all(), name
    for name in ("fve", "signal_power_explained"):
        np.testing.assert_allclose(found[name], 0, atol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_nan_prediction_is_nan_for_that_neuron_alone(share):
    rate, x = simulate()
    x = drop(x, share=share)
    x[0, :, :, 10] = np.nan
    whole = metrics.scores(rate, x)
    rate[0, :, :, 10] = np.nan  # not scored
    rate[1, 3, 0, 20] = np.nan
    found = metrics.scores(rate, x)
    others = np.arange(8) != 3
    for name in found:
        np.testing.assert_allclose(found[name][others], whole[name][others], rtol=1e-12, err_msg=name)
    for name in ("corrcoef", "corrcoef_per_trial", "normalized_corrcoef", "r_ceiling", "fve", "signal_power_explained"):
        assert np.isnan(found[name][3]), name
    assert found["signal_power"][3] == whole["signal_power"][3]


@pytest.mark.parametrize("missing", ["nothing", "a neuron's clip", "frames", "a neuron"])
def test_correlator_equals_corrcoef(missing):
    rate, x = (torch.from_numpy(v) for v in simulate())
    if missing == "a neuron's clip":
        x[0, 3] = torch.nan
    elif missing == "frames":
        x[1, 2, :, 50:70] = torch.nan
        rate[1, 2, :, 55] = torch.nan  # is not scored
    elif missing == "a neuron":
        x[:, 4] = torch.nan
    y = metrics.psth(x)
    x[:, 5] = 0.3  # has no variance
    y[:, 5] = 0.3
    rate[:, 6] = 1.0  # nor has this
    rate[2, 7, 0, 3] = torch.nan
    for response in (x, y.unsqueeze(2)):
        correlate = metrics.Correlator(response)
        expected = metrics.corrcoef(rate, response)
        assert expected[[5, 6, 7]].isnan().all()
        torch.testing.assert_close(correlate(rate), expected, equal_nan=True, rtol=1e-10, atol=1e-10)
        some = torch.tensor([4, 1, 1, 7])
        torch.testing.assert_close(
            correlate(rate[:, some], some), expected[some], equal_nan=True, rtol=1e-10, atol=1e-10
        )
    with pytest.raises(ValueError, match="prediction is"):
        correlate(rate[:, :3])


def test_identical_repeats_have_no_noise():
    x = np.repeat(np.random.default_rng(0).random((1, 3, 1, 50)), 4, 2)
    assert (metrics.noise_power(x) == 0).all()
    assert np.isinf(metrics.snr(x)).all()
    np.testing.assert_allclose(metrics.ccmax_split_half(x), 1)


def test_r_ceiling_floors_the_correlation_between_trials():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((1, 20, 5, 4000)), rng.standard_normal((1, 20, 1, 4000))
    x[:, :10] += 0.01 * p[:, :10]
    np.testing.assert_allclose(
        metrics.r_ceiling(p, x), metrics.corrcoef(p, x, per_trial=True) / 0.1, rtol=0.2, atol=1e-3
    )


# What must not matter


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
    centre=st.sampled_from(CENTRES),
    share=st.sampled_from([0.0, 0.15]),
)
def test_scores_are_invariant(seed, scale, shift, centre, share):
    """To the prediction's scale and offset, the order of repeats and clips, NaN padding, and unused neurons."""
    rng = np.random.default_rng(seed)
    rate, x = simulate(B=4, N=3, R=5, T=60, seed=seed)
    x = drop(x, seed, share)
    p = rate + rng.standard_normal(rate.shape)
    expected = metrics.scores(p, x, centre=centre)
    of_scale = ("fve", "signal_power_explained")

    padded = np.pad(x, ((0, 1), (0, 0), (0, 2), (0, 7)), constant_values=np.nan)
    variants = {
        "scale": metrics.scores(scale * p + shift, x, centre=centre),
        "repeats": metrics.scores(p, x[:, :, rng.permutation(5)], centre=centre),
        "clips": metrics.scores(p[::-1], x[::-1], centre=centre),
        "padding": metrics.scores(np.pad(p, ((0, 1), (0, 0), (0, 0), (0, 7))), padded, centre=centre),
        "others": {
            k: v[:3]
            for k, v in metrics.scores(np.tile(p, (1, 2, 1, 1)), np.tile(x, (1, 2, 1, 1)), centre=centre).items()
        },
    }
    for variant, found in variants.items():
        for name, value in found.items():
            if (variant == "scale" and name in of_scale) or (variant == "padding" and name == "ccmax_split_half"):
                continue
            np.testing.assert_allclose(value, expected[name], rtol=1e-7, atol=1e-9, err_msg=f"{variant}: {name}")


# Shapes and types


def test_every_layout_gives_the_same_scores():
    rate, x = simulate(B=3, T=50)
    expected = metrics.scores(rate, x)
    lengths = [50, 30, 41]
    short = [r[..., :n] for r, n in zip(x, lengths)], [p[:, 0, :n] for p, n in zip(rate, lengths)]
    cut = metrics.scores(short[1], short[0])
    junk, junk_rate = x.copy(), rate.copy()
    for k, n in enumerate(lengths):
        junk[k, ..., n:], junk_rate[k, ..., n:] = 9.0, np.inf
    calls = {
        "(B, N, T)": (expected, (rate[:, :, 0], x), {}),
        "lists": (expected, (list(rate[:, :, 0]), list(x)), {}),
        "float32 torch": (expected, (torch.tensor(rate), torch.tensor(x, dtype=torch.float32)), {}),
        "integers": (expected, (rate, x.astype(np.int16)), {}),
        "read-only": (expected, (np.broadcast_to(rate, rate.shape), np.broadcast_to(x, x.shape)), {}),
        "lengths": (cut, (junk_rate, junk), {"lengths": lengths}),
        "lengths, torch": (cut, (torch.tensor(junk_rate), torch.tensor(junk)), {"lengths": torch.tensor(lengths)}),
        "ragged beside a batch": (cut, (junk_rate, short[0]), {}),
        "mask": (cut, (np.nan_to_num(junk_rate), junk), {"mask": np.arange(50) < np.array(lengths)[:, None]}),
    }
    for call, (wanted, arguments, options) in calls.items():
        found = metrics.scores(*arguments, **options)
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-10, err_msg=f"{call}: {name}")
            assert isinstance(value, torch.Tensor) == ("torch" in call)
            assert value.dtype in (torch.float64, np.float64)


def test_one_clip_may_leave_out_its_axis():
    rate, x = simulate(B=1)
    expected = metrics.corrcoef(rate, x)
    for p, r in ((rate[0, :, 0], x[0]), (rate[0], x[0]), (rate[0, :, 0], x[0].mean(1))):
        np.testing.assert_allclose(metrics.corrcoef(p, r), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.signal_power(x[0]), metrics.signal_power(x), rtol=1e-12)
    mask = np.arange(200) < 120
    assert metrics.corrcoef(rate[0, :, 0], x[0], mask=mask) == pytest.approx(
        metrics.corrcoef(rate[..., :120], x[..., :120]), rel=1e-12
    )


def test_clips_of_a_list_may_differ_in_repeats_and_frames():
    rate, x = simulate(B=3, R=6)
    x[1, :, 4:] = np.nan
    x[2, ..., 120:] = np.nan
    ragged = [x[0], x[1, :, :4], x[2, ..., :120]]
    rates = [rate[0, :, 0], rate[1, :, 0], rate[2, :, 0, :120]]
    expected = metrics.scores(rate, x)
    for name, value in metrics.scores(rates, ragged).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, err_msg=name)


def test_inputs_are_left_as_they_were():
    rate, x = simulate()
    x = drop(x)
    rate_before, before = rate.copy(), x.copy()
    metrics.scores(rate, x, mask=np.ones((6, 200), bool))
    metrics.coherence(rate, x, dt_ms=5.0, window_ms=200)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(rate, rate_before)


def test_psth_is_the_mean_over_the_repeats_there_are():
    x = np.array([[[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]]])
    np.testing.assert_array_equal(metrics.psth(x), [[2.0, 5.0, np.nan]])
    y = metrics.psth([torch.tensor(x, dtype=torch.float32)])
    assert y[0].dtype == torch.float32
    np.testing.assert_array_equal(metrics.psth(np.ones((2, 3, 4, 5), int)), np.ones((2, 3, 5)))


BATCH = np.zeros((2, 3, 4, 10))


@pytest.mark.parametrize(
    ("prediction", "response", "options", "message"),
    [
        (np.zeros((2, 3, 1, 9)), BATCH, {}, "prediction"),
        (np.zeros((2, 5, 1, 10)), BATCH, {}, "prediction"),
        (np.zeros((1, 3, 1, 10)), BATCH, {}, "1 clips and response 2"),
        (np.zeros((2, 3, 4, 10)), BATCH, {}, "do not fit"),
        (np.zeros((5, 1, 10)), np.zeros((5, 1, 10)), {}, r"\(B, 1, T\) or \(N, 1, T\)"),
        ([np.zeros((3, 10))], BATCH, {}, "list"),
        ([np.zeros((3, 10))], [BATCH[0], BATCH[1]], {}, "1 clips and response 2"),
        ([], [], {}, "no clip"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"lengths": [10, 11]}, r"lengths\[1\]=11"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"lengths": [10]}, "lengths"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"lengths": [1.5, 2.0]}, "integers"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"mask": np.ones((2, 10))}, "boolean"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"mask": np.ones((2, 9), bool)}, r"mask is \(9,\)"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"mask": np.ones((3, 10), bool)}, "mask holds 3 clips"),
        (np.zeros((2, 3, 1, 10)), BATCH, {"centre": "time"}, "centre='time'"),
        (np.zeros((2, 3, 1, 10)), BATCH.astype(complex), {}, "real"),
        (np.zeros((2, 3, 1, 10)), torch.zeros(2, 3, 4, 10, dtype=torch.complex64), {}, "real"),
    ],
)
def test_a_wrong_argument_is_named(prediction, response, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.corrcoef(prediction, response, **options)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_an_infinite_response_is_refused(share):
    rate, x = simulate()
    x = drop(x, share=share)
    x[1, 2, 3, 4] = np.inf
    with pytest.raises(ValueError, match="infinite"):
        metrics.scores(rate, x)


def test_nothing_gives_nothing():
    assert metrics.scores(np.zeros((2, 0, 1, 9)), np.zeros((2, 0, 3, 9)))["ccmax"].shape == (0,)
    for frames, value in ((0, 0.0), (9, np.nan)):
        found = metrics.scores(np.zeros((2, 4, 1, frames)), np.full((2, 4, 3, frames), value))
        assert all(np.isnan(v).all() for v in found.values())


def test_a_response_without_repeats_has_no_signal_power():
    with pytest.raises(ValueError, match="response must be"):
        metrics.signal_power(np.zeros((3, 10)))
    with pytest.raises(ValueError, match="response must be"):
        metrics.psth(np.zeros((3, 10)))
    with pytest.raises(ValueError, match="n_splits=0"):
        metrics.ccmax_split_half(BATCH, n_splits=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    rate, x = simulate()
    x = drop(x)
    expected = metrics.scores(rate, x)
    for name, value in metrics.scores(torch.tensor(rate).cuda(), torch.tensor(x).cuda()).items():
        assert value.is_cuda
        np.testing.assert_allclose(value.cpu(), expected[name], rtol=1e-9, err_msg=name)
