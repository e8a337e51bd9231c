"""strflab.book.launch and .parallel: where a chapter can be run, how long it took, and that pages are read together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from docutils import nodes

from strflab.book import check, launch, notebooks, parallel
from strflab.report import RECORD
from tests.test_environment import CHAPTERS, CONFIG, ROOT

THEME = {
    "repository_url": CONFIG["repository"]["url"],
    "repository_branch": CONFIG["repository"]["branch"],
    "path_to_docs": CONFIG["repository"]["path_to_book"],
    "launch_buttons": CONFIG["launch_buttons"],
}
DRAWN = {"profile": "full", "device": "CPU", "seconds": 29.0, "stored": []}
FITS = {"profile": "full", "device": "CPU", "seconds": 1053.6}


def test_links_lead_to_the_notebook_in_the_repository():
    found = launch.links("notebooks/one", THEME | {"repository_url": "https://github.com/a/b"})
    assert found == {
        "Open in Colab": "https://colab.research.google.com/github/a/b/blob/main/notebooks/one.ipynb",
        "Open in Binder": "https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/notebooks/one.ipynb",
        "Download the notebook": "../_sources/notebooks/one.ipynb",
    }
    moved = launch.links("notebooks/one", THEME | {"path_to_docs": "docs/"})
    assert moved["Open in Colab"].endswith("/blob/main/docs/notebooks/one.ipynb")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_chapter_has_its_times_from_its_record(path):
    record = notebooks.record(notebooks.read(path))
    html = launch.box(f"notebooks/{path.stem}", record, THEME)
    page = check.Page(html)
    assert [url for url in page.links if url.startswith(("https://colab", "https://mybinder"))] == page.links[:2]
    assert all(f"notebooks/{path.stem}.ipynb" in url for url in page.links)
    assert page.loads == []
    assert (launch.GPU_ADVICE in html) == bool(record.get("stored"))


def test_times_are_those_that_were_measured():
    assert launch.times(DRAWN) == {"CPU": "under a minute for the full run", "GPU": "not measured"}
    assert launch.times(DRAWN | {"seconds": 80.4})["CPU"] == "1 minute for the full run"
    assert launch.times(DRAWN | {"seconds": 100.0, "profile": "smoke"})["CPU"] == "2 minutes for the smoke run"
    both = launch.times(DRAWN | {"stored": [FITS]})
    assert both["CPU"] == "under a minute from stored results, 18 minutes to fit everything again"
    on_gpu = launch.times(DRAWN | {"stored": [FITS | {"device": "NVIDIA T4", "seconds": 151.0}]})
    assert on_gpu == {
        "CPU": "under a minute from stored results",
        "GPU (NVIDIA T4)": "3 minutes to fit everything again",
    }
    assert launch.times({}) == {"CPU": "not measured", "GPU": "not measured"}


def test_the_box_goes_below_the_title_of_a_notebook_and_leaves_the_notebook_alone(tmp_path):
    path = tmp_path / "notebooks" / "one.ipynb"
    path.parent.mkdir()
    notebooks.write(path, {"cells": [], "metadata": {RECORD: DRAWN}, "nbformat": 4, "nbformat_minor": 5})
    before = path.read_bytes()

    def page(docname, builder="html"):
        section = nodes.section("", nodes.title("", "One"), nodes.paragraph("", "Text."))
        document = nodes.Element("", section)
        config = SimpleNamespace(html_theme_options=THEME)
        app = SimpleNamespace(srcdir=tmp_path, builder=SimpleNamespace(name=builder), config=config)
        launch._insert(app, document, docname)
        return [type(child) for child in section.children]

    assert page("notebooks/one") == [nodes.title, nodes.raw, nodes.paragraph]
    assert page("book/start") == page("notebooks/one", "singlehtml") == [nodes.title, nodes.paragraph]
    assert path.read_bytes() == before


def test_silent_extensions_are_declared_safe_and_no_other():
    extensions = {name: SimpleNamespace(parallel_read_safe=None) for name in (*parallel.SILENT[:2], "other")}
    parallel._allow(SimpleNamespace(extensions=extensions))
    assert [e.parallel_read_safe for e in extensions.values()] == [True, True, None]


def test_the_configuration_loads_both():
    text = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    assert {"strflab.book.launch", "strflab.book.parallel"} <= set(text["sphinx"]["config"]["extensions"])
