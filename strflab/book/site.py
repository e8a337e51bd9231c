"""Stage the pages and notebooks as one Sphinx source tree, and build the site from it."""

from __future__ import annotations

import gc
import os
import re
import shutil
from pathlib import Path

from strflab.book import notebooks
from strflab.book.runs import EXECUTED, chapters

SOURCE = Path("build", "src")
HTML = Path("build", "html")
FIGURES = Path("book", "figures")  # what the chapters drew, for book/intro.md
SHRUNK = Path("build", "figures")
TABLE = Path("book", "runs.md.txt")  # included by book/how.md
# name:[width,height,[aliases],"code point",path or paths], as Font Awesome's script lists them
ICON = re.compile(
    r'"?(?P<name>[\w-]+)"?:\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
)


def stage(root: Path, committed: bool = False) -> None:
    """Assemble build/src: the configuration, book/, the notebooks and the table of their runs.

    Parameters
    ----------
    root : Path
        The tree.
    committed : bool
        Take the notebooks with the outputs they were committed with, not those of the last run.

    Raises
    ------
    ValueError
        When a notebook has not been run.
    """
    target = root / SOURCE
    shutil.rmtree(target, ignore_errors=True)
    (target / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, target / name)
    shutil.copytree(root / "book", target / "book")
    (target / FIGURES).mkdir()
    records = {}
    for path in chapters(root):
        source = path if committed else root / EXECUTED / path.name
        if not source.exists():
            raise ValueError(f"{path.stem} has not been run: python -m strflab.book run {path.stem}")
        nb = notebooks.read(source)
        records[path.stem] = notebooks.record(nb)
        notebooks.write(target / "notebooks" / path.name, nb)
        for name, image in notebooks.figures(nb):
            (target / FIGURES / f"{name}.png").write_bytes(image)
    (target / TABLE).write_text(runs_table(records), "utf8")


def runs_table(records: dict[str, dict]) -> str:
    """Markdown of the table of runs: a row a notebook, then the versions of the packages.

    Parameters
    ----------
    records : what `notebooks.record` says of each notebook, by name

    Examples
    --------
    >>> print(runs_table({"one": {}}).splitlines()[-1])
    | {doc}`/notebooks/one` | not recorded |  |  |  |  |  |
    """
    head = ("Notebook", "Data", "Profile", "Device", "Seconds", "Date", "Commit")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    used: dict[str, list[str]] = {}
    for name, record in records.items():
        row = [f"{{doc}}`/notebooks/{name}`"]
        if record:
            data = ", ".join(ds["name"] for ds in record["datasets"]) or "none"
            row += [f"{data} (stored result)" if record.get("absent") else data]
            fitted = record.get("stored", [])  # numbers that were read come from the run that computed them
            came = fitted[0] if fitted else record
            seconds = record["seconds"] + sum(run["seconds"] for run in fitted)
            row += [came["profile"], came["device"], f"{seconds:.0f}", came["date"]]
            row += [f"`{came['commit']}`" if came["commit"] else "unknown"]
            text = ", ".join(f"{package} {number}" for package, number in record["versions"].items())
            used.setdefault(text, []).append(name)
        else:
            row += ["not recorded", "", "", "", "", ""]
        lines.append(f"| {' | '.join(row)} |")
    for text, names in used.items():
        which = "" if len(used) == 1 else f" of {', '.join(names)}"
        lines += ["", f"Versions{which}: {text}."]
    return "\n".join(lines) + "\n"


def build(root: Path) -> int:
    """Build build/html from build/src, every warning an error; return Sphinx's exit status.

    Parameters
    ----------
    root : the tree
    """
    status, built = render(root, "html")
    if status == 0:
        html = root / HTML
        shutil.rmtree(html, ignore_errors=True)
        shutil.copytree(built, html)
        _prune_mathjax(html / "_static" / "mathjax")
        _prune_icons(html)
        _shrink_figures(html, root / SHRUNK)
        _drop_preloads(html)
        print(f"the book is in {html / 'index.html'}")
    return status


def render(root: Path, builder: str) -> tuple[int, Path]:
    """Render build/src with one of Sphinx's builders; return the exit status, 0 without a warning, and the folder.

    As `jupyter-book build -W -n --keep-going --all` does, but on every core, which its command line cannot.

    Parameters
    ----------
    root : the tree
    builder : "html", "singlehtml", "linkcheck", ...
    """
    from jupyter_book.sphinx import build_sphinx

    source = (root / SOURCE).absolute()
    out = (root / "build" / "jb" / builder).absolute()
    shutil.rmtree(out.parent, ignore_errors=True)  # a page that is gone would stay
    asked = {"external_toc_path": str(source / "_toc.yml"), "latex_individualpages": False, "nitpicky": True}
    before = gc.get_threshold()
    gc.set_threshold(
        200_000, 50, 100
    )  # a document is many small objects that stay: a fifth of the time went to looking
    try:
        status = build_sphinx(
            source,
            out,
            noconfig=True,
            path_config=source / "_config.yml",
            confoverrides=asked,
            builder=builder,
            force_all=True,
            warningiserror=True,
            keep_going=True,
            quiet=True,  # warnings still come on stderr
            jobs=os.cpu_count() or 1,
        )
    finally:
        gc.set_threshold(*before)
    return (status if isinstance(status, int) else 1), out  # an exception has been shown


def pages(html: Path) -> list[Path]:
    """Return the pages of a built site, in order.

    Parameters
    ----------
    html : folder of the site

    Raises
    ------
    ValueError
        When there is none.
    """
    found = sorted(path for path in html.rglob("*.html") if "_static" not in path.relative_to(html).parts)
    if not found:
        raise ValueError(f"no page in {html}; build the site first")
    return found


def _prune_mathjax(folder: Path) -> None:
    """Keep the one component and the fonts that the pages load: the rest is three quarters of the site."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "tex-chtml.js" and "woff-v2" not in path.parts:
            path.unlink()


def _prune_icons(html: Path) -> None:
    """Keep the icons that the pages use, a few of two thousand: every page reads the file that holds them."""
    scripts = [path for path in html.rglob("*.js") if "fontawesome" not in path.parts]
    used: set[str] = set()
    for path in [*html.rglob("*.html"), *scripts]:
        used.update(re.findall(r"\bfa-([a-z0-9-]+)", path.read_text("utf8")))

    def kept(icon: re.Match[str]) -> str:
        names = {icon["name"], *re.findall(r"[\w-]+", icon["aliases"])}
        return icon[0] if names & used else ""

    for path in html.glob("_static/vendor/fontawesome/*/js/all.min.js"):
        path.write_text(ICON.sub(kept, path.read_text("utf8")), "utf8")


def _shrink_figures(html: Path, cache: Path) -> None:
    """Replace the notebooks' PNG images by WebP of the same pixels, half as large; `cache` keeps those of before."""
    from PIL import Image

    cache.mkdir(parents=True, exist_ok=True)
    smaller = {}
    for path in sorted((html / "_images").glob("*.png")):
        if not re.fullmatch("[0-9a-f]{64}", path.stem):  # named by its content, so the cache cannot be out of date
            continue
        kept = cache / f"{path.stem}.webp"
        if not kept.exists():
            with Image.open(path) as image:
                notebooks.without_opacity(image).save(kept, lossless=True, exact=True, quality=50, method=2)
        if kept.stat().st_size < path.stat().st_size:
            path.unlink()
            shutil.copy(kept, path.parent)
            smaller[path.name] = kept.name
    for path in html.rglob("*.html"):
        text = path.read_text("utf8")
        path.write_text(re.sub(r"[0-9a-f]{64}\.png", lambda m: smaller.get(m[0], m[0]), text), "utf8")


def _drop_preloads(html: Path) -> None:
    """Remove the early loading of fonts, which a browser refuses, and reports, on a page opened from disk."""
    for path in html.rglob("*.html"):
        text = path.read_text("utf8")
        path.write_text(re.sub(r'<link rel="preload" as="font"[^>]*>\s*', "", text), "utf8")
