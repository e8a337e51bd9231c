"""strflab.book.browser and pdf: each check of a page in a browser catches what it is for, and passes a good page."""

from __future__ import annotations

import struct
import zlib

import pytest

from strflab.book import browser, chromium, pdf, site
from strflab.book.__main__ import main

GOOD = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>A page</title><style>
html[data-theme="dark"] body { background: #111; color: #eee } @media print { nav { display: none } }
main { print-color-adjust: exact }
</style></head><body><nav><a href="#top" style="color: inherit">Top</a></nav>
<main><h1 id="top">DNet</h1><p>A network with memory.</p><img src="a.png" alt="A field.">BODY</main></body></html>"""

# one page a fault: what is added to the good page, and a part of what must be said of it
FAULTS = {
    "console": ("<script>console.error('it broke')</script>", "console: it broke"),
    "script": ("<script>throw new Error('thrown')</script>", "script: thrown"),
    "host": (
        "<script>new Image().src = 'https://example.org/x.png'</script>",
        "another host: https://example.org/x.png",
    ),
    "socket": ("<script>new WebSocket('ws://example.org/s')</script>", "another host: ws://example.org/s"),
    "image": ('<img src="gone.png" alt="Gone.">', "image not drawn: gone.png"),
    "icon": ('<svg data-icon="owl" aria-hidden="true"><g class="missing"></g></svg>', "icon not drawn: owl"),
    "filter": (
        '<div style="filter: grayscale(1)"><img src="filter.png" alt="x"></div>',
        "colours of an image altered: filter.png",
    ),
    "fade": ('<img src="fade.png" alt="x" style="opacity: 0.9">', "colours of an image altered: fade.png"),
    "dark": (
        '<style>html[data-theme="dark"] img { filter: brightness(0.8) }</style>',
        "colours of an image altered: a.png",
    ),
    "maths": (r'<span class="math">\(x^2\)</span>', "maths not rendered: span.math"),
    "merror": ('<mjx-merror data-mjx-error="Undefined control sequence">x</mjx-merror>', "Undefined control sequence"),
    "wide": ('<div style="width: 900px">wide</div>', "wide in a window of 390"),
    "edge": (
        '<div style="overflow: hidden"><p style="width: 900px">w</p></div>',
        'beyond the window\'s edge: p "w"',
    ),
    "h1": ("<h1>Again</h1>", "2 headings of the first level"),
    "skip": ("<h3>Deep</h3>", 'heading of level 3 after level 1: h3 "Deep"'),
    "link": (
        '<a href="#top"></a><style>a { display: inline-block; min-width: 9px; min-height: 9px }</style>',
        "without a name: <a",
    ),
    "button": (
        "<style>@media print { button { display: none } }</style><button> x </button><button>&nbsp;</button>",
        "without a name: <button",
    ),
    "field": ('<input type="text">', "without a name: <input"),
    "keyboard": ('<span role="button">press</span>', 'out of the keyboard\'s reach: span "press"'),
    "pale": ('<p style="color: #999">pale</p>', 'light theme: contrast 2.85, below 4.5: p "pale"'),
    "large": ('<p style="color: #aaa; font-size: 24px">large</p>', "contrast 2.32, below 3:"),
    "night": ('<p style="color: #333">dark</p>', "dark theme: contrast 1.49, below 4.5"),
    "heavy": ("<!--" + "x" * browser.WEIGHT + "-->", "weighs 1,00"),
    "nav": ('<div role="navigation">On this page</div>', "printed although it is navigation: div"),
    "press": ("<button>Copy</button>", 'printed although it is a button: button "Copy"'),
    "cut": (
        '<div style="overflow-x: auto" tabindex="0"><p style="width: 900px">long</p></div>',
        "cut when printed: div",
    ),
    "ink": (
        '<div style="print-color-adjust: economy"><img src="ink.png" alt="x" width="20"></div>',
        "printed with other colours: ink.png",
    ),
}
SEARCH = """<!DOCTYPE html><html lang="en"><head><title>Search</title></head><body><main><h1>Search</h1>
<ul id="search-results">RESULTS</ul></main></body></html>"""
BOX = """<form action="search.html" style="display: none"><input type="search" name="q" aria-label="Search"></form>
<button class="search-button" onclick="document.forms[0].style.display = 'block'">Find</button>
<style>@media print { form, button { display: none !important } }</style>"""


@pytest.fixture(scope="module", autouse=True)
def _browser():
    try:
        chromium.find()
    except chromium.Missing as why:
        pytest.skip(str(why))


def png():
    """A picture of one red pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    )


def write(root, **pages):
    """Write a site of good pages with something added to each."""
    html = root / site.HTML
    html.mkdir(parents=True)
    for name in ("a", "filter", "fade", "ink"):
        (html / f"{name}.png").write_bytes(png())
    for name, text in pages.items():
        (html / f"{name}.html").write_text(text if "<html" in text else GOOD.replace("BODY", text), "utf8")
    return root


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What is said of a site that holds a page for each fault, and a good one."""
    bodies = {name: body for name, (body, _) in FAULTS.items()}
    root = write(tmp_path_factory.mktemp("site"), good="", **bodies)
    return browser.browse(root)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_on_its_page(faults, name):
    said = [text for text in faults if text.startswith(f"{name}.html: ")]
    assert any(FAULTS[name][1] in text for text in said), said


def test_nothing_is_said_of_a_good_page(faults):
    assert [text for text in faults if text.startswith("good.html")] == []


def test_a_good_site_has_no_problem_and_its_figures_are_told(tmp_path, capsys):
    found = '<li><a href="index.html" style="color: #00c">DNet</a></li>'
    assert browser.browse(write(tmp_path, index=BOX, search=SEARCH.replace("RESULTS", found))) == []
    out = capsys.readouterr().out
    assert "2 pages opened 4 times" in out
    assert "0 requests to other hosts, 0 problems" in out


def test_listings_of_code_are_opened_once(tmp_path, capsys):
    root = write(tmp_path, index="")
    (root / site.HTML / "_modules").mkdir()
    (root / site.HTML / "_modules" / "x.html").write_text(
        GOOD.replace("BODY", "<h3>as it is</h3>").replace("a.png", "../a.png")
    )
    assert browser.browse(root) == []
    assert "2 pages opened 3 times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ("", "finds no DNet"),
        ('<li><a href="other.html" style="color: #00c">other</a></li>', "leads to pages without it"),
    ],
)
def test_a_search_that_fails_is_seen(tmp_path, monkeypatch, results, said):
    monkeypatch.setattr(browser, "SEARCH_MS", 500)
    other = GOOD.replace("BODY", "").replace("DNet", "T")
    root = write(tmp_path, index=BOX, other=other, search=SEARCH.replace("RESULTS", results))
    assert [said in text for text in browser.browse(root)] == [True]


def test_there_must_be_a_site(tmp_path):
    with pytest.raises(ValueError, match="build the site first"):
        browser.browse(tmp_path)


# without a browser


def test_without_a_browser_the_pages_are_skipped_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("STRFLAB_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["browse"], write(tmp_path, index="")) == 0
    assert capsys.readouterr().out.startswith("pages not opened in a browser: skipped, no Chromium is installed")
    assert main(["pdf"], tmp_path) == 1
    assert capsys.readouterr().err.startswith("strflab.book pdf: no Chromium is installed; install one")


def test_a_browser_that_is_named_must_be_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STRFLAB_CHROMIUM", str(tmp_path / "gone"))
    assert main(["browse"], write(tmp_path, index="")) == 1
    assert "STRFLAB_CHROMIUM is" in capsys.readouterr().err


# the PDF


def test_a_page_is_printed(tmp_path):
    body = '<p style="break-before: page">Second.</p>'
    page = write(tmp_path, index=body) / site.HTML / "index.html"
    assert pdf.to_pdf(page, tmp_path / "out" / "a.pdf") == 2
    data = (tmp_path / "out" / "a.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/Outlines" in data


@pytest.mark.parametrize("fault", ["image", "maths"])
def test_a_page_that_is_not_drawn_is_not_printed(tmp_path, fault):
    body, said = FAULTS[fault]
    page = write(tmp_path, index=body) / site.HTML / "index.html"
    with pytest.raises(ValueError, match=said):
        pdf.to_pdf(page, tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_a_pdf_needs_a_staged_book(tmp_path, capsys):
    assert main(["pdf"], tmp_path) == 1
    assert "stage the book first" in capsys.readouterr().err
