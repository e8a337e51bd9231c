"""A fit that is interrupted ends as one that is not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from strflab import data, models
from strflab.fitting import Penalty, Recipe, fit
from strflab.layers import Chain

RECIPES = {
    "plain": Recipe(epochs=12, batch_size=1),
    "everything": Recipe(
        epochs=12,
        batch_size=2,
        ema=0.9,
        schedule="cosine",
        warmup=2,
        clip_frames=120,
        gradient_clip=1.0,
        penalties=(Penalty("l1", 1e-4),),
        weight_decay=1e-2,
    ),
    "sgd": Recipe(epochs=12, optimizer="sgd", learning_rate=1e-2),
}


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=3, n_clips=4, seconds=1.0, seed=2)


def network(ds, seed=0):
    torch.manual_seed(seed)
    model = models.NetworkReceptiveField(ds.n_bands, 5, ds.n_neurons, n_hidden=4)
    model.core = Chain(*model.core, torch.nn.Dropout(0.1))  # draws random numbers as it is trained
    return model


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def _save_every_epoch(monkeypatch):
    monkeypatch.setattr("strflab.fitting.checkpoint.SECONDS_BETWEEN", 0.0)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("epoch", [1, 7, 12])
def test_resumed_equals_uninterrupted_to_the_last_bit(tmp_path, ds, name, epoch):
    def stop(record):
        if record["epoch"] == epoch:
            raise Stop

    recipe = RECIPES[name]
    whole = fit(network(ds), ds, ds.select(clips=[3]), recipe, progress=False)
    with pytest.raises(Stop):
        fit(network(ds), ds, ds.select(clips=[3]), recipe, checkpoint=tmp_path, progress=False, callback=stop)
    resumed = fit(network(ds, seed=9), ds, ds.select(clips=[3]), recipe, checkpoint=tmp_path, progress=False)
    for (key, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert whole.best_epoch == resumed.best_epoch
    assert [r["score"] for r in whole.history] == [r["score"] for r in resumed.history]


SCRIPT = """
import sys, torch
import strflab.fitting.checkpoint as checkpoint
checkpoint.SECONDS_BETWEEN = 0.0
from strflab import data, models
from strflab.fitting import Recipe, fit
torch.set_num_threads(1)
ds = data.load("simulated", n_neurons=3, n_clips=4, seconds=1.0, seed=2)
torch.manual_seed(0)
model = models.DNet(ds.n_bands, 5, ds.n_neurons, n_hidden=4)
print("ready", flush=True)
run = fit(model, ds, None, Recipe(epochs=300, patience=300), checkpoint=sys.argv[1], progress=False)
run.model.save_pretrained(sys.argv[2])
"""


def test_killed_at_any_moment_it_goes_on(tmp_path):
    def start(folder, out):
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(tmp_path / out)], stdout=subprocess.PIPE
        )

    whole = start("a", "whole")
    for pause in (0.05, 0.21, 0.4):
        process = start("b", "killed")
        process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = start("b", "killed")
    assert last.wait() == 0
    assert whole.wait() == 0
    a, b = (models.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_damaged_checkpoint_is_refused_with_its_path(tmp_path, ds):
    fit(network(ds), ds, recipe=RECIPES["plain"], checkpoint=tmp_path, progress=False)
    path = tmp_path / "fit.safetensors"
    good = path.read_bytes()
    for bad in (good[: len(good) // 2], good[:-1] + bytes([good[-1] ^ 1]), b""):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=rf"{path.name} is damaged.*delete it"):
            fit(network(ds), ds, recipe=RECIPES["plain"], checkpoint=tmp_path, progress=False)
        assert path.read_bytes() == bad


def test_checkpoint_of_another_fit_is_refused(tmp_path, ds):
    fit(network(ds), ds, recipe=RECIPES["plain"], checkpoint=tmp_path, progress=False)
    with pytest.raises(ValueError, match="another recipe"):
        fit(network(ds), ds, recipe=RECIPES["sgd"], checkpoint=tmp_path, progress=False)
    with pytest.raises(ValueError, match="another train"):
        fit(network(ds), ds.select(clips=[0]), recipe=RECIPES["plain"], checkpoint=tmp_path, progress=False)
