"""The browser that opens and prints the book: a Chromium of this machine, driven through Playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ELSEWHERE = re.compile(r"^(?!file:|data:|blob:)")
PATIENCE_MS = 120_000  # on a machine that does much else
# As root, in a container, without a screen; and with none of the browser's own calls home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Missing(ValueError):
    """There is no browser, or nothing to drive it with."""


def find() -> str:
    """Return the browser to use: that of STRFLAB_CHROMIUM, else the first on the path.

    Raises
    ------
    Missing
        When there is none, or Playwright is not installed.
    ValueError
        When STRFLAB_CHROMIUM names no program.
    """
    asked = os.environ.get("STRFLAB_CHROMIUM")
    if asked and not shutil.which(asked):
        raise ValueError(f"STRFLAB_CHROMIUM is {asked!r}; it must be the path of a Chromium")
    found = asked or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise Missing("no Chromium is installed; install one, or name it in STRFLAB_CHROMIUM")
    try:
        import playwright  # noqa: F401
    except ImportError:
        raise Missing("Playwright is not installed; it comes with pip install strflab[test]") from None
    return found


@contextmanager
def launch() -> Iterator[Browser]:
    """Start the browser, without a window; it ends with the block.

    Raises
    ------
    ValueError
        See `find`.
    """
    path = find()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def offline(browser: Browser, refused: Callable[[str], Any] = str, **options: Any) -> BrowserContext:
    """Open a context that reads files alone and in whose pages page.js is at hand as `strflabPage`.

    Parameters
    ----------
    browser : Browser
        What `launch` gives.
    refused : callable
        Told the address of each request that would have gone to another host.
    **options
        Those of Playwright's `new_context`.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(path=Path(__file__).with_name("page.js"))

    def refuse(route: Any) -> None:
        refused(route.request.url)
        route.abort()

    context.route(ELSEWHERE, refuse)
    return context
