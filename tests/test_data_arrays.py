"""A recording of one's own as a .npz file: what is read, and what is said of a file that is wrong."""

import numpy as np
import pytest

from strflab import data
from strflab.data.arrays import write_arrays

F, N, R = 3, 2, 4


def arrays(frames=(20, 30), **changes):
    """A file's content; a change to None takes a key away."""
    rng = np.random.default_rng(0)
    made = {"dt_ms": 5.0, "frequencies": np.array([500.0, 1000.0, 2000.0])}
    for k, n in enumerate(frames):
        made[f"stimuli_{k}"] = rng.normal(size=(F, n))
        made[f"responses_{k}"] = rng.poisson(1.0, (N, R, n)).astype(float)
    return {key: value for key, value in (made | changes).items() if value is not None}


@pytest.fixture
def written(tmp_path):
    def write(**content):
        path = tmp_path / "mine.npz"
        np.savez(path, **content)
        return path

    return write


def test_numbered_keys_are_sounds_of_any_length(written):
    content = arrays(range(10, 22))  # twelve: their order is that of numbers, not of letters
    content["responses_1"][0, 2, :5] = np.nan
    ds = data.read(written(**content, neurons=["a", "b"]))
    assert ds.n_frames == list(range(10, 22))
    assert (ds.name, ds.dt_ms, ds.frequencies.tolist()) == ("mine", 5.0, [500, 1000, 2000])
    assert [row["id"] for row in ds.neurons] == ["a", "b"]
    np.testing.assert_allclose(ds.stimuli[11], content["stimuli_11"], rtol=1e-6)
    assert ds.responses[1][0, 2, :5].isnan().all()


def test_sounds_of_one_length_may_be_one_array(written):
    content = arrays((20, 20))
    stacked = {key: np.stack([content.pop(f"{key}_0"), content.pop(f"{key}_1")]) for key in ("stimuli", "responses")}
    numbered = data.read(written(**arrays((20, 20))))
    assert data.read(written(**content, **stacked)).fingerprint() == numbered.fingerprint()


def test_one_repeat_needs_no_axis(written):
    content = arrays()
    single = {f"responses_{k}": content[f"responses_{k}"][:, 0] for k in range(2)}
    assert [tuple(y.shape) for y in data.read(written(**content | single)).responses] == [(N, 1, 20), (N, 1, 30)]


def test_what_is_written_is_read(tmp_path):
    ds = data.load("simulated", n_neurons=2, n_clips=3, seconds=(0.5, 1.0), uneven=True)
    ds.save(tmp_path / "mine.npz")
    again = data.read(tmp_path / "mine.npz")
    assert again.fingerprint() == ds.fingerprint()
    assert [row["id"] for row in again.neurons] == [str(row["id"]) for row in ds.neurons]
    with pytest.raises(ValueError, match="must end in"):
        write_arrays(tmp_path / "mine.mat", ds)


OBJECTS = np.empty(2, dtype=object)
OBJECTS[:] = [np.zeros(2), np.zeros(3)]
WRONG = {
    "missing": ({"dt_ms": None}, "key 'dt_ms' is missing"),
    "unknown": ({"stimulus_0": np.zeros(3)}, "key 'stimulus_0' is unknown"),
    "gap": ({"stimuli_0": None}, "key 'stimuli_0' is missing"),
    "none": ({"responses_0": None, "responses_1": None}, "must have 'responses'"),
    "both": ({"stimuli": np.zeros((2, F, 20))}, "not both"),
    "count": ({"responses_1": None}, "2 stimuli and 1 responses"),
    "objects": ({"stimuli_0": OBJECTS}, "key 'stimuli_0' holds objects"),
    "text": ({"stimuli_0": np.array([["a"]])}, "key 'stimuli_0' holds .*must be numbers"),
    "shape": ({"stimuli_1": np.zeros(30)}, r"key 'stimuli_1' has shape \(30,\): must be \(F, T\)"),
    "transposed": ({"stimuli_1": np.zeros((30, F))}, "'stimuli_1' has 30 bands, 'frequencies' has 3: is it transposed"),
    "neurons": ({"responses_1": np.zeros((5, R, 30))}, "key 'responses_1' has 5 neurons, the first has 2"),
    "frames": ({"responses_1": np.zeros((N, R, 31))}, "key 'responses_1' has 31 frames, 'stimuli_1' has 30"),
    "NaN": ({"stimuli_0": np.full((F, 20), np.nan)}, "key 'stimuli_0' holds NaN"),
    "infinite": ({"responses_0": np.full((N, R, 20), np.inf)}, "key 'responses_0' holds infinity"),
    "dt": ({"dt_ms": np.array([1.0, 2.0])}, "key 'dt_ms' must be one number"),
    "dt not positive": ({"dt_ms": 0.0}, "dt_ms=0.0"),
    "frequencies": ({"frequencies": np.zeros((2, 2))}, r"key 'frequencies' has shape \(2, 2\)"),
    "names": ({"neurons": np.array(["a"])}, r"key 'neurons' has shape \(1,\): must be \(2,\)"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_by_its_key(written, changes, words):
    with pytest.raises(ValueError, match=words):
        data.read(written(**arrays(**changes)))


def test_what_is_no_such_file_is_refused(tmp_path, written):
    whole = written(**arrays()).read_bytes()
    for name, content in (("cut.npz", whole[: len(whole) // 2]), ("text.npz", b"dt_ms = 5")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is no .npz file, or is cut short"):
            data.read(tmp_path / name)
    at = whole.index(b"stimuli_0.npy") + 300  # within the array
    (tmp_path / "hurt.npz").write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    with pytest.raises(ValueError, match="key 'stimuli_0' is damaged"):
        data.read(tmp_path / "hurt.npz")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        data.read(tmp_path / "none.npz")
