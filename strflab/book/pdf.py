"""The whole book as one PDF, without TeX: Sphinx writes it as one page, and a browser prints that page."""

from __future__ import annotations

from pathlib import Path

from strflab.book import chromium, site

PDF = Path("build", "strflab.pdf")
WRITTEN = "book/intro.html"  # where Sphinx puts the one page, the root of _toc.yml; its links start one folder above
FOOTER = """<div style="font-size: 10px; width: 100%; text-align: center; color: #444">
<span class="pageNumber"></span> / <span class="totalPages"></span></div>"""
MARGINS = {"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
CHAPTERS = 'span[id^="document-"] + section { break-before: page; }'


def make(root: Path) -> int:
    """Print build/src into build/strflab.pdf; return Sphinx's exit status.

    Parameters
    ----------
    root : Path
        The tree, staged.

    Raises
    ------
    ValueError
        When there is no browser, nothing was staged, or a picture or an equation of the page is not drawn.
    """
    chromium.find()  # before the minute that Sphinx takes
    if not (root / site.SOURCE).is_dir():
        raise ValueError(f"there is no {site.SOURCE}; stage the book first")
    status, built = site.render(root, "singlehtml")
    if status == 0:
        page = built / "book.html"
        page.write_text((built / WRITTEN).read_text("utf8").replace(f'href="{WRITTEN}#', 'href="#'), "utf8")
        pages = to_pdf(page, root / PDF)
        print(f"the book is in {root / PDF}, {pages} pages, {(root / PDF).stat().st_size / 1e6:.1f} MB")
    return status


def to_pdf(page: Path, target: Path) -> int:
    """Print a page into a PDF with page numbers and bookmarks, nothing fetched; return the number of its pages.

    Parameters
    ----------
    page : Path
        An HTML file.
    target : Path
        The PDF, replaced when it exists.

    Raises
    ------
    ValueError
        When there is no browser, or a picture or an equation is not drawn.
    """
    with chromium.launch() as browser:
        context = chromium.offline(browser)
        sheet = context.new_page()
        sheet.goto(page.resolve().as_uri())
        sheet.evaluate("strflabPage.settle()")
        if found := sheet.evaluate("[...strflabPage.images(), ...strflabPage.maths()]"):
            raise ValueError("; ".join(found[:3]))
        sheet.add_style_tag(content=CHAPTERS)
        target.parent.mkdir(parents=True, exist_ok=True)
        sheet.pdf(
            path=target,
            format="A4",
            margin=MARGINS,  # type: ignore[arg-type]
            scale=0.85,  # the type of a book rather than of a screen
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            tagged=True,
            outline=True,
        )
    return target.read_bytes().count(b"/Type /Page\n")
