"""Open every page of the built site in a browser, from disk, as a reader does, and say what that reader would miss.

The functions that look at a page are in page.js; this file drives them, and sees what a page cannot see of itself:
its requests, its errors, its weight, and whether the search finds anything.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from strflab.book import chromium, site
from strflab.book.check import REDIRECT
from strflab.book.site import HTML

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

WIDTHS = {390: 844, 1440: 900}  # a phone's and a desk's, px, with their heights
PAPER = {"width": 718, "height": 1047}  # A4 less margins of 1 cm, px
WEIGHT = 1_000_000  # bytes of a page and what it alone loads: all but _static, which a browser keeps
WORD = "DNet"  # what the search is asked for
SEARCH_MS = 30_000  # after which it has found nothing
LISTINGS = "_modules"  # pages of source code: many, alike, and seen at one width
READING = ("images", "colours", "maths", "overflow")
LOOKS = ("headings", "names", "keyboard")


@dataclass
class Visits:
    """What was seen of a site.

    Parameters
    ----------
    problems : dict
        Pages by what is wrong with them.
    pages, visits : int
        Pages seen, and how often one was opened.
    foreign : int
        Requests to other hosts.
    weights : dict
        Bytes of a page with what it alone loads, and with the files that all pages share.
    seconds : dict
        Until a page's text was there, and until all of it was, the longer of the widths.
    """

    problems: dict[str, list[str]] = field(default_factory=dict)
    pages: int = 0
    visits: int = 0
    foreign: int = 0
    weights: dict[str, tuple[int, int]] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, name: str, problem: str) -> None:
        """Note a problem of a page, once."""
        pages = self.problems.setdefault(problem, [])
        if name not in pages:
            pages.append(name)


def browse(root: Path) -> list[str]:
    """Return what is wrong with the pages of build/html in a browser; an empty list is a good site.

    Parameters
    ----------
    root : Path
        The tree.

    Raises
    ------
    ValueError
        When there is no site or no browser (`chromium.Missing`).
    """
    html = (root / HTML).resolve()
    names = [str(path.relative_to(html)) for path in site.pages(html) if not REDIRECT.search(path.read_text("utf8"))]
    start = time.perf_counter()
    seen = Visits(pages=len(names))
    with chromium.launch() as browser:
        for width, height in WIDTHS.items():
            _Window(browser, html, width, height, seen).open_all(names)
    found = [
        f"{pages[0]}: {problem}" + (f" (and {len(pages) - 1} pages more)" if len(pages) > 1 else "")
        for problem, pages in seen.problems.items()
    ]
    print(_summary(seen, time.perf_counter() - start, len(found)))
    return found


class _Window:
    """A browser's window of one width, which remembers what the page in it asked for and complained of."""

    def __init__(self, browser: Browser, html: Path, width: int, height: int, seen: Visits) -> None:
        self.html, self.width, self.seen = html, width, seen
        self.context = chromium.offline(browser, self._foreign, viewport={"width": width, "height": height})
        self.page: Page = self.context.new_page()
        self.name = ""
        self.loaded: set[str] = set()
        self.page.on("request", self._note)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._add(f"script: {error}"))
        self.page.on("websocket", lambda socket: self._foreign(socket.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._add(f"console: {message.text}")

    def open_all(self, names: list[str]) -> None:
        """Open the pages, search, and close the window."""
        for name in names:
            if not name.startswith(LISTINGS):
                self.open(name)
                self.look()
                if self.width == max(WIDTHS):
                    self.print()
            elif self.width == min(WIDTHS):
                self.open(name)
        if "search.html" in names:
            self.search(names)
        self.context.close()

    def open(self, name: str) -> None:
        """Load a page, wait until it is drawn, and look at what must be right on every page."""
        self.name, self.loaded = name, set()
        self.page.goto((self.html / name).as_uri())
        self.page.evaluate("strflabPage.settle()")
        self.seen.visits += 1
        self._ask(*READING)
        text, whole = (ms / 1000 for ms in self.page.evaluate("strflabPage.times()"))
        before = self.seen.seconds.get(name, (0.0, 0.0))
        self.seen.seconds[name] = (max(text, before[0]), max(whole, before[1]))
        self._weigh()

    def look(self) -> None:
        """Look at headings, names and contrast, in the light and in the dark theme."""
        self._ask(*LOOKS)
        if self.width != max(WIDTHS):  # colours are the same at every width, and the desk shows more
            return
        self.page.add_style_tag(content="*, ::before, ::after { transition: none !important; }")
        for theme in ("light", "dark"):
            self.page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            for problem in self.page.evaluate("strflabPage.contrast()"):
                self._add(f"{theme} theme: {problem}")
            self._ask("colours")
        self.page.evaluate("document.documentElement.dataset.theme = 'light'")

    def print(self) -> None:
        """Look at the page as it would be printed."""
        window = self.page.viewport_size
        self.page.emulate_media(media="print")
        self.page.set_viewport_size(PAPER)  # type: ignore[arg-type]
        self._ask("printed", "colours")
        self.page.emulate_media(media="screen")
        self.page.set_viewport_size(window)  # type: ignore[arg-type]

    def search(self, names: list[str]) -> None:
        """Ask the search box of the first page for a word; a page with that word must come out."""
        from playwright.sync_api import TimeoutError

        first = next(name for name in ["book/intro.html", *names] if name in names)
        self.name = first
        self.page.goto((self.html / first).as_uri())
        button = self.page.locator("button.search-button__button:visible, button.search-button:visible").first
        button.click()
        box = self.page.locator("input[type=search]:visible, input[name=q]:visible").first
        box.fill(WORD)
        box.press("Enter")
        self.page.wait_for_url("**/search.html?*")
        self.name = "search.html"
        found = self.page.locator("#search-results li a")
        try:
            found.first.wait_for(timeout=SEARCH_MS)
        except TimeoutError:
            self._add(f"the search finds no {WORD}")
            return
        targets = [Path(unquote(urlsplit(link.get_attribute("href") or "").path)) for link in found.all()]
        if not any(WORD in (self.html / target).read_text("utf8") for target in targets):
            self._add(f"the search for {WORD} leads to pages without it")

    def _ask(self, *questions: str) -> None:
        for question in questions:
            for problem in self.page.evaluate(f"strflabPage.{question}()"):
                self._add(problem)

    def _weigh(self) -> None:
        files = {Path(unquote(urlsplit(url).path)) for url in self.loaded if url.startswith("file:")}
        sizes = {path: path.stat().st_size for path in files if path.is_file()}
        own = sum(size for path, size in sizes.items() if "_static" not in path.parts)
        whole = sum(sizes.values())
        self.seen.weights[self.name] = (own, whole)
        if own > WEIGHT:
            self._add(f"weighs {own:,} bytes; at most {WEIGHT:,}")

    def _note(self, request: Request) -> None:
        self.loaded.add(request.url)

    def _foreign(self, url: str) -> None:
        self.seen.foreign += 1
        self._add(f"asks another host: {url}")

    def _add(self, problem: str) -> None:
        self.seen.add(self.name, problem)


def _summary(seen: Visits, seconds: float, problems: int) -> str:
    heavy = max(seen.weights, key=lambda name: seen.weights[name])
    slow = max(seen.seconds, key=lambda name: seen.seconds[name][1])
    own, whole = seen.weights[heavy]
    text, drawn = seen.seconds[slow]
    return (
        f"{seen.pages} pages opened {seen.visits} times in {seconds:.0f} s, {seen.foreign} requests to other hosts, "
        f"{problems} problems\n"
        f"heaviest: {heavy}, {own / 1e6:.2f} MB ({whole / 1e6:.2f} MB with what all pages share); "
        f"slowest: {slow}, text after {text:.2f} s, all after {drawn:.2f} s"
    )
