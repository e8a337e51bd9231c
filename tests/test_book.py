"""strflab.book: what a run leaves in a notebook, what may be published, what the checks of the site see."""

from __future__ import annotations

import base64
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from strflab.book import check, docstrings, notebooks, runs, site
from strflab.book.__main__ import main
from strflab.report import RECORD

ROOT = Path(__file__).parents[1]

IMAGE = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}, "metadata": {}}
FIGURE = {"mystnb": {"figure": {"name": "fig-a", "caption": "A field."}, "image": {"alt": "A heat map."}}}


def code(source="", outputs=(), count=None, **metadata):
    return {
        "cell_type": "code",
        "id": f"id{source}",
        "source": source,
        "metadata": {"tags": [], **metadata},
        "outputs": copy.deepcopy(list(outputs)),
        "execution_count": count,
    }


def notebook(*cells, **metadata):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": list(cells), "metadata": kernel | metadata, "nbformat": 4, "nbformat_minor": 5}


def figure(outputs=(IMAGE,), **changes):
    return notebook(code("plot", outputs, **(FIGURE | changes)))


PARAMETERS = code('profile = "smoke"\ndevice = "auto"\nseed = 0', tags=["parameters"])


@pytest.fixture
def tree(tmp_path):
    """A small book: the configuration, a page, one notebook."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("title: t\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    (tmp_path / "book" / "intro.md").write_text("# T\n")
    notebooks.write(tmp_path / "notebooks" / "one.ipynb", notebook(PARAMETERS, code("print(profile)")))
    return tmp_path


def executed(tree, profile="full", datasets=("ns1",)):
    """Put an executed copy of the notebook where a run would."""
    nb = notebooks.read(tree / "notebooks" / "one.ipynb")
    nb["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"{profile}\n"]}]
    nb["metadata"][RECORD] = {
        "profile": profile,
        "device": "CPU",
        "seconds": 4.2,
        "date": "2026-01-31",
        "commit": "0123456789ab",
        "versions": {"python": "3.11"},
        "datasets": [{"name": name} for name in datasets],
    }
    target = tree / runs.EXECUTED / "one.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    notebooks.write(target, nb)
    return nb


# a run


def test_clean_leaves_only_results():
    noisy = notebook(
        code("p", tags=["parameters"], count=1, papermill={"duration": 1}),
        code("q", tags=["injected-parameters"], count=2),
        code("r", [{"output_type": "execute_result", "execution_count": 3, "data": {}}], 3, execution={"t": 1}),
        papermill={"end_time": "now"},
    )
    notebooks.clean(noisy)
    assert [cell["source"] for cell in noisy["cells"]] == ["p", "r"]
    assert [cell["execution_count"] for cell in noisy["cells"]] == [1, 2]
    assert noisy["cells"][1]["outputs"][0]["execution_count"] == 2
    assert "papermill" not in json.dumps(noisy)
    assert 'execution"' not in json.dumps(noisy)


@pytest.mark.parametrize(("alpha", "mode"), [(255, "RGB"), (100, "RGBA")])
def test_compress_keeps_every_pixel_in_fewer_bytes(alpha, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[0, 0, 3] = alpha
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    nb = figure([{**IMAGE, "data": {"image/png": base64.b64encode(png.getvalue()).decode()}}])
    notebooks.compress(nb)
    smaller = base64.b64decode(nb["cells"][0]["outputs"][0]["data"]["image/png"])
    assert len(smaller) < len(png.getvalue())
    with Image.open(io.BytesIO(smaller)) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(image.convert("RGBA"), pixels)


def test_run_executes_records_and_names_what_failed(tree, capsys, monkeypatch):
    """The one test that starts kernels: a notebook that works, and one that raises."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cell = "import os\nfrom strflab import report\nreport.provenance(report.setup(profile, device, seed))\nos.getcwd()"
    notebooks.write(tree / "notebooks" / "one.ipynb", notebook(PARAMETERS, code(cell)))
    notebooks.write(tree / "notebooks" / "two.ipynb", notebook(PARAMETERS, code("1 / 0")))
    stale = tree / runs.EXECUTED / "two.ipynb"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")

    assert runs.run(tree, profile="full", device="cpu", jobs=2, progress=True) == 1

    out, err = capsys.readouterr()
    assert "one:" in err, "a bar of its cells"
    assert "/3 [" in err, "two cells, and one that holds the parameters"
    assert "1 of 2 notebooks" in out
    assert "ZeroDivisionError" in err
    assert not stale.exists(), "a failed run leaves no executed copy"
    nb = notebooks.read(tree / runs.EXECUTED / "one.ipynb")
    record = notebooks.record(nb)
    assert (record["profile"], record["device"]) == ("full", "CPU")
    assert record["seconds"] > 0
    assert notebooks.sources(nb) == notebooks.sources(notebooks.read(tree / "notebooks" / "one.ipynb"))
    assert str(tree / "notebooks") in json.dumps(nb["cells"][1]["outputs"])


def test_chapters_are_found_by_a_part_of_their_names(tree):
    for name in ("01_harper_2016", "02_rahman_2019", "02_rahman_2020"):
        notebooks.write(tree / "notebooks" / f"{name}.ipynb", notebook(PARAMETERS))

    def found(*names):
        return [path.stem for path in runs.chapters(tree, names)]

    assert found("01") == found("Harper") == found("01_harper_2016.ipynb") == ["01_harper_2016"]
    assert found("2020", "one", "harper") == ["02_rahman_2020", "one", "01_harper_2016"]
    assert found("01", "harper") == ["01_harper_2016"]
    assert len(found()) == 4
    with pytest.raises(ValueError, match="'02' is in the names of 2 notebooks: 02_rahman_2019, 02_rahman_2020"):
        found("02")
    with pytest.raises(ValueError, match="no notebook 'x'"):
        found("x")


def test_run_refuses_a_notebook_without_the_parameters(tree):
    """Papermill only warns of a parameter that a notebook does not have."""
    notebooks.write(tree / "notebooks" / "one.ipynb", notebook(code("profil = 1\ndevice = 2", tags=["parameters"])))
    with pytest.raises(ValueError, match="one has no parameter profile"):
        runs.run(tree)


@pytest.mark.parametrize(
    ("arguments", "word"), [({"profile": "fast"}, "profile"), ({"jobs": 0}, "jobs"), ({"names": ["x"]}, "notebook")]
)
def test_run_names_a_wrong_argument(tree, arguments, word):
    with pytest.raises(ValueError, match=word):
        runs.run(tree, **arguments)


# publishing


def test_publish_copies_the_outputs_of_a_full_run(tree):
    nb = executed(tree)
    runs.publish(tree)
    path = tree / "notebooks" / "one.ipynb"
    assert notebooks.read(path) == nb
    before = path.read_bytes()
    runs.publish(tree)
    assert path.read_bytes() == before


def test_publish_refuses_a_smoke_run(tree):
    executed(tree, profile="smoke")
    with pytest.raises(ValueError, match="only a full run"):
        runs.publish(tree)


def test_publish_refuses_outputs_of_another_text(tree):
    executed(tree)
    notebooks.write(tree / "notebooks" / "one.ipynb", notebook(PARAMETERS, code("print(1)")))
    with pytest.raises(ValueError, match="changed since"):
        runs.publish(tree)


def test_publish_does_not_replace_recordings_by_simulations_unasked(tree):
    executed(tree, datasets=["ns1"])
    runs.publish(tree)
    executed(tree, datasets=["simulated"])
    with pytest.raises(ValueError, match=r"simulated.*ns1"):
        runs.publish(tree)
    runs.publish(tree, force=True)
    assert notebooks.record(notebooks.read(tree / "notebooks" / "one.ipynb"))["datasets"] == [{"name": "simulated"}]


def test_publish_refuses_a_stored_result(tree):
    nb = executed(tree)
    nb["metadata"][RECORD]["absent"] = True
    notebooks.write(tree / runs.EXECUTED / "one.ipynb", nb)
    with pytest.raises(ValueError, match="shows a stored result"):
        runs.publish(tree)


def test_publish_refuses_what_was_not_run(tree):
    with pytest.raises(ValueError, match="no executed copy"):
        runs.publish(tree)


# staging


def test_stage_takes_the_last_run_or_the_committed_outputs(tree):
    executed(tree, profile="smoke")
    staged = tree / site.SOURCE / "notebooks" / "one.ipynb"
    site.stage(tree)
    assert "smoke\\n" in staged.read_text("utf8")
    site.stage(tree, committed=True)
    assert "smoke\\n" not in staged.read_text("utf8")
    assert (tree / site.SOURCE / "book" / "intro.md").is_file()


def test_stage_hands_the_pages_what_the_chapters_drew(tree):
    nb = figure()
    cell = nb["cells"][0]
    cell["outputs"][0] = {**cell["outputs"][0], "data": {"image/png": base64.b64encode(b"png").decode()}}
    notebooks.write(tree / "notebooks" / "one.ipynb", nb)
    site.stage(tree, committed=True)
    name = cell["metadata"]["mystnb"]["figure"]["name"]
    assert (tree / site.SOURCE / site.FIGURES / f"{name}.png").read_bytes() == b"png"


def test_stage_needs_a_run(tree):
    with pytest.raises(ValueError, match="one has not been run"):
        site.stage(tree)


def test_table_of_runs_says_what_each_page_comes_from(tree):
    executed(tree)
    site.stage(tree)
    text = (tree / site.SOURCE / site.TABLE).read_text("utf8")
    assert "| {doc}`/notebooks/one` | ns1 | full | CPU | 4 | 2026-01-31 | `0123456789ab` |" in text
    assert "Versions: python 3.11." in text


def test_command_line_turns_errors_into_one_line(tree, capsys):
    assert main(["stage"], tree) == 1
    assert capsys.readouterr().err == ("strflab.book stage: one has not been run: python -m strflab.book run one\n")
    assert main(["stage", "--committed"], tree) == 0


# figures


def test_a_good_figure_has_no_problem():
    assert notebooks.problems(figure()) == []


@pytest.mark.parametrize(
    ("nb", "word"),
    [
        (figure(outputs=[]), "holds no image"),
        (figure(outputs=[IMAGE, IMAGE]), "2 images"),
        (figure(mystnb={"figure": FIGURE["mystnb"]["figure"]}), "alt text"),
        (figure(mystnb={"image": {"alt": "A heat map."}}), "name and caption"),
        (notebook(*figure()["cells"], *figure()["cells"]), "comes twice"),
        (notebook(code("x", [{"output_type": "error", "ename": "E"}])), "raised"),
    ],
    ids=["no image", "two images", "no alt", "no caption", "same name", "error"],
)
def test_a_bad_figure_is_named(nb, word):
    assert any(word in text for text in notebooks.problems(nb))


def test_the_table_of_runs_names_the_run_that_the_numbers_come_from():
    page = {"profile": "full", "device": "a laptop", "seconds": 20.0, "date": "2026-02-02", "commit": "bbb"}
    page |= {"datasets": [{"name": "ns1"}], "versions": {"torch": "2"}, "stored": [], "absent": False}
    fits = page | {"device": "a server", "seconds": 600.0, "date": "2026-01-01", "commit": "aaa"}
    row = site.runs_table({"two": page | {"stored": [fits]}}).splitlines()[2]
    assert row == "| {doc}`/notebooks/two` | ns1 | full | a server | 620 | 2026-01-01 | `aaa` |"
    row = site.runs_table({"two": page | {"stored": [fits], "absent": True}}).splitlines()[2]
    assert "ns1 (stored result)" in row


# the site


PAGE = '<html><head>{head}</head><body><h1 id="top">T</h1>{body}</body></html>'


@pytest.fixture
def html(tmp_path):
    """Write pages of a site, and check it."""

    def write(body="", head="", **files):
        folder = tmp_path / site.HTML
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(PAGE.format(head=head, body=body))
        (folder / "other.html").write_text(PAGE.format(head="", body='<p id="café">x</p>'))
        (folder / "a.png").write_bytes(b"")
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        return check.check(tmp_path)

    return write


def test_a_good_site_has_no_problem(html):
    links = '<a href="other.html#caf%C3%A9">a</a> <a href="#top">b</a> <a href="https://example.org/x">c</a>'
    image = '<figure><img src="a.png" alt="A field."><figcaption><span class="caption-number">Fig. 1</span>'
    assert html(f"{links}{image}</figcaption></figure>") == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('<a href="gone.html">x</a>', "no file gone.html"),
        ('<a href="other.html#gone">x</a>', "no anchor other.html#gone"),
        ('<a href="#gone">x</a>', "no anchor #gone"),
        ('<img src="a.png" alt=" ">', "image without alt text: a.png"),
        ('<img src="a.png">', "image without alt text: a.png"),
        ('<figure><img src="a.png" alt="A"></figure>', "figure without a number: a.png"),
        ('<img src="https://example.org/a.png" alt="A">', "loads https://example.org/a.png"),
        ('<script src="//example.org/a.js"></script>', "loads //example.org/a.js"),
    ],
)
def test_a_bad_page_is_named(html, body, word):
    assert html(body) == [f"index.html: {word}"]


@pytest.mark.parametrize("rel", ["stylesheet", "preload", "icon", "preconnect"])
def test_nothing_is_loaded_from_another_host(html, rel):
    assert html(head=f'<link rel="{rel}" href="https://example.org/x">') == ["index.html: loads https://example.org/x"]


@pytest.mark.parametrize("rule", ["src: url('https://example.org/x.woff')", '@import "https://example.org/x.css"'])
def test_style_sheets_load_nothing_either(html, rule):
    assert len(html(style_css=rule)) == 1
    assert html(style_css="src: url(x.woff); /* see https://example.org */") == []


def test_a_redirect_must_lead_somewhere(html):
    assert html(head='<meta http-equiv="Refresh" content="0; url=other.html" />') == []
    assert html(head='<meta http-equiv="Refresh" content="0; url=gone.html" />') == ["index.html: no file gone.html"]


def test_a_figure_has_a_limit_of_bytes(html, tmp_path):
    images = tmp_path / site.HTML / "_images"
    images.mkdir(parents=True)
    (images / "small.png").write_bytes(b"x" * check.FIGURE_BYTES)
    assert html() == []
    (images / "large.png").write_bytes(b"x" * (check.FIGURE_BYTES + 1))
    assert html() == ["_images/large.png: 150,001 bytes; a figure has at most 150,000"]


def test_a_notebooks_figures_are_kept_smaller_in_the_same_colours(tmp_path):
    name = "0123456789abcdef" * 4
    images = tmp_path / "html" / "_images"
    images.mkdir(parents=True)
    field = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(field).convert("RGBA").save(images / f"{name}.png", compress_level=1)
    page = tmp_path / "html" / "index.html"
    page.write_text(f'<img src="_images/{name}.png"> <img src="_images/strfs.png">')
    site._shrink_figures(tmp_path / "html", tmp_path / "kept")
    assert page.read_text() == f'<img src="_images/{name}.webp"> <img src="_images/strfs.png">'
    assert [path.name for path in images.iterdir()] == [f"{name}.webp"]
    assert (np.asarray(Image.open(images / f"{name}.webp")) == field).all()


def test_only_the_icons_that_pages_use_are_kept(tmp_path):
    script = tmp_path / "_static" / "vendor" / "fontawesome" / "6" / "js" / "all.min.js"
    script.parent.mkdir(parents=True)
    script.write_text(
        'a={"arrow-up":[8,9,[],"f1","M0"],owl:[8,9,[1],"f2",["M1","M2"]],pencil:[8,9,["pencil-alt"],"f3","M3"]};'
    )
    (tmp_path / "x.html").write_text('<i class="fa-solid fa-arrow-up"></i><i class="fas fa-pencil-alt"></i>')
    site._prune_icons(tmp_path)
    assert script.read_text() == 'a={"arrow-up":[8,9,[],"f1","M0"],pencil:[8,9,["pencil-alt"],"f3","M3"]};'


def test_there_must_be_a_site(tmp_path):
    with pytest.raises(ValueError, match="build the site first"):
        check.check(tmp_path)


# the pages


def test_first_steps_run(capsys):
    """The first example of the page that a new user reads first."""
    page = (ROOT / "book" / "start.md").read_text("utf8")
    exec(page.split("```python\n")[1].split("```")[0], {})
    shape, *scores = capsys.readouterr().out.splitlines()
    assert shape.endswith(", 15)")
    assert scores


# docstrings


def read(text):
    return docstrings.as_numpy_style(text.splitlines())


def test_words_after_the_colon_become_the_description():
    assert read("Parameters\n----------\nx : the sound, (F, T)\n    in dB")[2:5] == [
        "x : the sound, (F, T)",
        "    in dB",
        "",
    ]
    assert read("Raises\n------\nValueError : x is NaN")[2:4] == ["ValueError", "    x is NaN"]


def test_a_long_first_line_is_a_sentence_even_when_it_goes_on():
    line = "x : " + "the sound as it reaches the ear of the animal, " * 2
    assert read(f"Parameters\n----------\n{line}\n    in dB")[2:4] == ["x", f"    {line[4:]}"]


def test_a_paragraph_ends_a_section():
    lines = read("Parameters\n----------\nx : the sound\n\nThe answer is a rate.")
    assert lines[-4:] == ["", "", "The answer is a rate.", ""]


def test_fields_need_no_header():
    assert read("A fit.\n\nmodel : the best weights\nscores : (N,)")[2:5] == ["Parameters", "-" * 10, "model"]
    assert read("A fit.\n\nIt holds a model.\nAnd scores.")[2:] == ["It holds a model.", "And scores.", ""]


def test_free_text_under_attributes_is_kept_as_text():
    lines = read("Attributes\n----------\nstrf_ (N, F, T), last tap at lag 0")
    assert lines == [".. rubric:: Attributes", "", r"strf\_ (N, F, T), last tap at lag 0", ""]


def test_equations_and_examples_keep_their_lines():
    lines = read("Ridge, |h|^2.\n\n    h = (X'X + a)^-1 X'y + |h|\n\n>>> a | b_\n1")
    assert lines[0] == r"Ridge, \|h\|^2."
    assert lines[2:5] == ["::", "", "    h = (X'X + a)^-1 X'y + |h|"]
    assert ">>> a | b_" in lines


def test_lists_are_no_equations():
    text = "- one\n\n    more of one"
    assert read(text) == ["- one", "", "    more of one", ""]
