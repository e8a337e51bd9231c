"""strflab.speed and benchmarks: how costs grow, what is stored of a run, what is not measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import scaling, zoo
from benchmarks.harness import Row, peak_mb, table
from benchmarks.store import store
from strflab import speed

FACTS = {"device": "cpu", "threads": 1, "torch": "2", "machine": "x86_64, 2 cores", "date": "2026-01-01"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results" / "speed.json"


def measured(n, seconds, **more):
    sizes = {"model": "LN", "axis": "frames", "clips": 1, "frames": n, "neurons": 119}
    return Row(f"LN, 1 x {n}", seconds, sizes=sizes, **more)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, -0.5])
def test_the_exponent_of_a_power_law_is_its_power(power):
    x = np.array([250, 1000, 4000, 16_000, 100_000])
    assert speed.exponent(x, 0.3 * x**power) == pytest.approx(power)


def test_fixed_costs_are_left_out_of_an_exponent():
    x = np.array([1.0, 10, 1000, 10_000])
    y = np.maximum(x, 500)
    assert speed.exponent(x, y) < 0.5
    assert speed.exponent(x, y, at_least=1000) == pytest.approx(1)
    assert np.isnan(speed.exponent(x, y, at_least=5000))
    assert speed.exponent([1, 2, 4], [0, 2, 4]) == pytest.approx(1)  # no memory seen at the first


def test_a_skipped_point_is_in_no_series(file):
    rows = [measured(250, 0.1), measured(1000, 0.4, peak_mb=3.0), measured(4000, None, skipped="expected to need 60 s")]
    store("scaling", FACTS, rows, file)
    stored = speed.run("scaling", file=file)["rows"]
    assert stored[2]["skipped"] == "expected to need 60 s"
    x, y = speed.series(stored, "frames")["LN"]
    np.testing.assert_array_equal([x, y], [[250, 1000], [0.1, 0.4]])
    assert len(speed.series(stored, "frames", "peak_mb")["LN"][0]) == 1
    assert speed.series(stored, "clips") == {}


def test_storing_replaces_the_same_run_and_keeps_all_others(file):
    for name, facts in (
        ("zoo", FACTS),
        ("zoo", FACTS | {"threads": 2}),
        ("zoo", FACTS | {"device": "cuda"}),
        ("fit", FACTS),
    ):
        store(name, facts, [Row("x", 1.0)], file)
    before = speed.runs(file)
    store("zoo", FACTS | {"date": "2026-02-02"}, [Row("y", 0.123456, "other", 0.5, sizes={"model": "LN"})], file)
    after = speed.runs(file)
    assert len(before) == len(after) == 4
    assert [run for run in before if run not in after] == [
        {"benchmark": "zoo", **FACTS, "rows": [{"what": "x", "seconds": 1.0}]}
    ]
    again = speed.run("zoo", file=file)
    assert again["date"] == "2026-02-02"
    assert again["rows"] == [
        {"what": "y", "seconds": 0.1235, "reference": "other", "reference_seconds": 0.5, "sizes": {"model": "LN"}}
    ]
    assert speed.run("zoo", threads=2, file=file)["rows"] == [{"what": "x", "seconds": 1.0}]


def test_what_is_not_stored_has_no_rows_and_what_is_damaged_is_named(file):
    assert speed.runs(file) == []
    assert speed.run("zoo", file=file)["rows"] == []
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(ValueError, match=r"speed\.json is damaged"):
        speed.runs(file)


def test_the_file_of_the_book_is_of_this_form():
    for run in speed.runs():
        assert {"benchmark", "device", "threads", "torch", "machine", "date", "rows"} == set(run)
        assert all("seconds" in row or row["skipped"] for row in run["rows"])
        assert not any("/" in str(run[key]) for key in ("machine", "date"))
    assert json.dumps({"runs": speed.runs()}, indent=1) + "\n" == speed.path().read_text("utf8")


def test_every_model_can_be_scaled_and_what_is_too_dear_is_skipped(monkeypatch):
    case = next(case for case in zoo.CASES if case.name == "LN")
    rows = scaling.run(names=["LN"], axes={"frames": (20, 40), "neurons": (1, 2), "clips": (1, 2)}, memory=False)
    assert [row.sizes["axis"] for row in rows] == ["frames"] * 2 + ["neurons"] * 2 + ["clips"] * 2
    assert all(row.seconds > 0 for row in rows)
    assert [row.sizes["neurons"] for row in rows] == [119, 119, 1, 2, 119, 119]
    monkeypatch.setattr(scaling, "LONGEST", rows[0].seconds)
    kept, *dear = scaling._series(case, "frames", (20, 2000, 20_000), "cpu", False)
    assert kept.seconds
    assert [row.seconds for row in dear] == [None, None]
    assert dear[0].skipped.startswith("expected to need")
    assert "skipped" in table([kept, *dear])


@pytest.mark.parametrize(
    ("seen", "expected"),
    [([], 0.0), ([(10, 2.0)], 8.0), ([(5, 0.5), (10, 2.0)], 32.0), ([(5, 1.9), (10, 2.0)], 8.0)],
    ids=["nothing is known", "in proportion", "as the square", "in proportion at least"],
)
def test_what_a_size_will_need_follows_from_those_before(seen, expected):
    assert scaling._expected(seen, 40) == pytest.approx(expected)


def _allocate(n_mb):
    return lambda: bytearray(n_mb * 2**20)


def test_memory_is_what_the_work_adds():
    peak = peak_mb(_allocate, 50)
    assert peak is None or 49 < peak < 60


def test_text_of_a_measurement():
    assert [speed.text(s).replace("\N{NO-BREAK SPACE}", " ") for s in (3e-5, 0.01234, 2.5, 123.4, None)] == [
        "30.0 µs",
        "12.3 ms",
        "2.50 s",
        "123 s",
        "not measured",
    ]
    assert [speed.text(mb, "MB").split() for mb in (0.5, 2500)] == [["0.50", "MB"], ["2.50", "GB"]]
    assert np.isnan(speed.geometric_mean([]))
