"""strflab.report: runs, glued numbers, claims, provenance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from strflab import report
from strflab.data import NeuralDataset
from strflab.results import Result


@pytest.fixture
def shown(monkeypatch):
    """What a notebook displays."""
    IPython = pytest.importorskip("IPython.display")
    calls = []
    monkeypatch.setattr(IPython, "display", lambda data, **options: calls.append((data, options)))
    return calls


@pytest.fixture(autouse=True)
def _no_override(monkeypatch):
    monkeypatch.delenv("STRFLAB_PROFILE", raising=False)
    monkeypatch.delenv("STRFLAB_DEVICE", raising=False)


def test_setup_seeds_torch():
    report.setup("smoke", "cpu", seed=3)
    first = torch.rand(4)
    report.setup("smoke", "cpu", seed=3)
    assert torch.equal(torch.rand(4), first)


def test_environment_overrides_the_arguments_of_setup(monkeypatch):
    monkeypatch.setenv("STRFLAB_PROFILE", "full")
    monkeypatch.setenv("STRFLAB_DEVICE", "cpu")
    run = report.setup("smoke", "cuda")
    assert run.full
    assert run.device == torch.device("cpu")


def test_auto_device_is_one_that_works():
    assert torch.zeros(1, device=report.setup("smoke", "auto").device).sum() == 0


@pytest.mark.parametrize(("arguments", "word"), [({"profile": "fast"}, "profile"), ({"device": "abacus"}, "device")])
def test_setup_names_a_wrong_argument(arguments, word):
    with pytest.raises(ValueError, match=f"{word} is '"):
        report.setup(**arguments)


def test_choose_follows_the_profile():
    assert report.setup("smoke", "cpu").choose(smoke=1, full=2) == 1
    assert report.setup("full", "cpu").choose(smoke=1, full=2) == 2


@pytest.mark.parametrize("value", [0.12345, np.float64(0.12345), torch.tensor(0.12345, dtype=torch.float64)])
def test_glue_records_a_plain_number(shown, value):
    """The page evaluates the record: 'np.float64(0.12)' would not be a number there."""
    report.glue("r", value, digits=2)
    (data, options), *_ = shown
    assert data == {"application/papermill.record/text/plain": "0.12"}
    assert options["metadata"]["scrapbook"]["name"] == "r"


def test_glue_records_counts_and_texts(shown):
    report.glue("n", np.int64(73))
    report.glue("name", "ns1")
    assert [list(data.values()) for data, _ in shown] == [["73"], ["'ns1'"]]


def test_a_table_with_a_name_is_recorded_for_other_pages(shown):
    report.table(["model"], [["**LN**"]], name="short")
    (record, options), (drawn, _) = shown
    assert options["metadata"]["scrapbook"]["name"] == "short"
    assert record["application/papermill.record/text/html"] == drawn["text/html"]
    assert "<strong>LN</strong>" in drawn["text/html"]


def claims() -> report.Claims:
    table = report.Claims()
    table.add("A <b", test="r > 0.3", value=0.444, interval=(0.41, 0.47), holds=np.bool_(True))
    table.add("C", test="x < 0.4", value=-0.5, paper=0.4, holds=False, why="our neuron is | another")
    table.add("D", test="as C", holds=None, why="no recording of MLd")
    return table


def test_verdicts_are_lines_without_numbers(capsys):
    claims().verdicts()
    assert capsys.readouterr().out == "A <b: holds\nC: does not hold\nD: cannot be tested here\n"


def test_claims_show_value_interval_and_reason():
    page = claims()._repr_html_()
    assert "A &lt;b" in page
    assert "0.44 [0.41,\N{NO-BREAK SPACE}0.47]" in page
    assert "−0.50" in page
    assert "<strong>✗ does not hold</strong>: our neuron is | another" in page
    assert "overflow-x: auto" in page


def test_claims_in_markdown_keep_their_columns():
    lines = claims()._repr_markdown_().splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


def test_claims_leave_out_the_column_of_the_paper_when_it_is_empty():
    table = report.Claims()
    table.add("A", test="r > 0", value=1.0, holds=True)
    assert '<th scope="col">Paper</th>' not in table._repr_html_()
    assert '<th scope="col">Paper</th>' in claims()._repr_html_()


def test_claims_are_counted():
    assert claims().summary == "Of 3 claims, 1 holds, 1 does not hold, 1 cannot be tested here."
    assert "Of 3 claims" in repr(claims())


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"holds": None}, "why"),
        ({"holds": True, "value": float("nan")}, "NaN"),
        ({"holds": False, "value": np.float64("nan")}, "NaN"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_not(row, word):
    with pytest.raises(ValueError, match=word):
        report.Claims().add("A", test="t", **row)


def test_a_statement_comes_once():
    table = claims()
    with pytest.raises(ValueError, match="already"):
        table.add("C", test="t", holds=True)


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(0)
    return NeuralDataset(
        stimuli=[rng.normal(size=(4, 600))] * 2,
        responses=[rng.poisson(1.0, size=(1, 3, 600)).astype(float)] * 2,
        dt_ms=5.0,
        frequencies=np.geomspace(500, 8000, 4),
        name="toy",
        licence="CC0",
    )


def test_provenance_shows_and_records_the_run(shown, toy):
    report.provenance(report.setup("smoke", "cpu", seed=7), toy, folds=5)
    (data, options), *_ = shown
    record = options["metadata"][report.RECORD]
    assert (record["profile"], record["device"], record["seed"]) == ("smoke", "CPU", 7)
    assert record["datasets"][0]["minutes"] == pytest.approx(0.1)
    assert record["datasets"][0]["fingerprint"] == toy.fingerprint()
    assert record["versions"]["torch"] == torch.__version__
    assert json.loads(json.dumps(record)) == record
    assert "1 neuron, 2 clips, 0.1 min; licence: CC0" in data["text/html"]
    assert "Folds: 5" in data["text/plain"]


def test_provenance_of_a_stored_result_names_the_run_it_came_from(shown, toy):
    full = report.record(report.setup("full", "cpu"), toy) | {"date": "2026-01-31", "commit": "0123456789ab"}
    result = Result("r", {}, full, stored=True)
    report.provenance(report.setup("smoke", "cpu"), result)
    (data, options), *_ = shown
    record = options["metadata"][report.RECORD]
    assert record["profile"] == "smoke"
    assert record["stored"] == [full]
    assert record["datasets"] == full["datasets"]
    assert "commit 0123456789ab on 2026-01-31" in data["text/html"]


def test_banner_is_shown_in_every_form(shown):
    report.banner("The recording is <not> here.")
    (data, _), *_ = shown
    assert "&lt;not&gt;" in data["text/html"]
    assert data["text/plain"] == "The recording is <not> here."
