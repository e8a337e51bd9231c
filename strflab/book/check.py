"""Check the built site: links, anchors, other hosts, words for every image, figures in their place and their size."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from strflab.book import notebooks, site
from strflab.book.site import HTML, SOURCE

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADED_LINKS = {"stylesheet", "preload", "icon", "modulepreload", "prefetch", "preconnect", "dns-prefetch"}
FIGURE_BYTES = 150_000  # a larger figure is slow to come, and can be drawn with less
REDIRECT = re.compile(r'<meta http-equiv="refresh" content="0; *url=([^"]+)"', re.IGNORECASE)
CSS_URL = re.compile(r"""url\(\s*['"]?((?:https?:)?//[^'")]+)|@import\s+['"]((?:https?:)?//[^'"]+)""")


class Page(HTMLParser):
    """What a page defines (ids), loads, links to, and its images without alt text or number."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.without_alt: list[str] = []
        self.unnumbered: list[str] = []
        self._figure: list[str] = []
        self._numbered = False
        self._inside = False
        self.links += REDIRECT.findall(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what one tag defines, loads or links to.

        Parameters
        ----------
        tag : its name
        attrs : names and values of its attributes
        """
        a = {name: value or "" for name, value in attrs}
        self.ids.update(filter(None, [a.get("id")]))
        if a.get(LOADED.get(tag, "")):
            self.loads.append(a[LOADED[tag]])
        if tag == "link" and LOADED_LINKS & set(a.get("rel", "").split()):
            self.loads.append(a.get("href", ""))
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag == "figure":
            self._inside, self._numbered, self._figure = True, False, []
        if tag == "span" and "caption-number" in a.get("class", "").split():
            self._numbered = True
        if tag == "img":
            if not a.get("alt", "").strip():
                self.without_alt.append(a.get("src", ""))
            if self._inside:
                self._figure.append(a.get("src", ""))

    def handle_endtag(self, tag: str) -> None:
        """Judge a figure when it ends.

        Parameters
        ----------
        tag : its name
        """
        if tag == "figure":
            if not self._numbered:
                self.unnumbered += self._figure
            self._inside = False


def check(root: Path) -> list[str]:
    """Return what is wrong with build/html and the notebooks it was made from; an empty list is a good site.

    Parameters
    ----------
    root : Path
        The tree.

    Raises
    ------
    ValueError
        When there is no site.
    """
    html = root / HTML
    pages = {path.resolve(): Page(path.read_text("utf8")) for path in site.pages(html)}
    found = [
        f"{path.relative_to(html.resolve())}: {text}"
        for path, page in sorted(pages.items())
        for text in _page_problems(path, page, pages)
    ]
    for path in sorted(html.rglob("*.css")):
        for match in CSS_URL.finditer(path.read_text("utf8")):
            found.append(f"{path.relative_to(html)}: loads {match[1] or match[2]}")
    for path in sorted(filter(Path.is_file, (html / "_images").rglob("*"))):
        if (size := path.stat().st_size) > FIGURE_BYTES:
            found.append(f"_images/{path.name}: {size:,} bytes; a figure has at most {FIGURE_BYTES:,}")
    for path in sorted((root / SOURCE / "notebooks").glob("*.ipynb")):
        found += [f"{path.stem}: {text}" for text in notebooks.problems(notebooks.read(path))]
    links = sum(len(page.links) for page in pages.values())
    print(f"{len(pages)} pages, {links} links, {len(found)} problems")
    return found


def _page_problems(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    found = [f"image without alt text: {src}" for src in page.without_alt]
    found += [f"figure without a number: {src}" for src in page.unnumbered]
    found += [f"loads {url}" for url in page.loads if urlsplit(url).netloc]
    for url in page.loads + page.links:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target = target / "index.html"
        if not target.exists():
            found.append(f"no file {url}")
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
            found.append(f"no anchor {url}")
    return found
