"""Command line of the book: `python -m strflab.book run|stage|build|check|browse|pdf|publish`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from strflab.book import browser, check, chromium, pdf, runs, site
from strflab.report import PROFILES


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m strflab.book", description="Run, render and check the book.")
    steps = top.add_subparsers(dest="step", required=True)
    step = steps.add_parser("run", help="execute notebooks into build/executed")
    step.add_argument("names", nargs="*", help="notebooks to run; all when none is given")
    step.add_argument("--profile", choices=PROFILES, default="smoke")
    step.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    step.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="notebooks at a time")
    step.add_argument("--timeout", type=int, default=3600, help="seconds that one cell may take")
    step = steps.add_parser("stage", help="assemble build/src")
    step.add_argument("--committed", action="store_true", help="with the committed outputs, not the last run's")
    steps.add_parser("build", help="render build/src into build/html, every warning an error")
    steps.add_parser("check", help="check links, anchors, hosts, images and figures of build/html")
    steps.add_parser("browse", help="open every page of build/html in Chromium, at a phone's and a desk's width")
    steps.add_parser("pdf", help="print build/src into build/strflab.pdf with Chromium")
    step = steps.add_parser("publish", help="copy the outputs of a full run into notebooks/")
    step.add_argument("names", nargs="*", help="notebooks to publish; all when none is given")
    step.add_argument("--force", action="store_true", help="also when the outputs come from other data sets")
    return top


def main(argv: list[str] | None = None, root: Path | None = None) -> int:
    """Run one step in the current folder, or in `root`; return the exit status."""
    args = parser().parse_args(argv)
    root = root or Path.cwd()
    try:
        if args.step == "run":
            failed = runs.run(root, args.profile, args.device, args.jobs, args.timeout, args.names)
            return int(failed > 0)
        if args.step == "stage":
            site.stage(root, args.committed)
        elif args.step == "build":
            return site.build(root)
        elif args.step == "pdf":
            return pdf.make(root)
        elif args.step in ("check", "browse"):
            found = check.check(root) if args.step == "check" else _browse(root)
            print("\n".join(found), end="\n" if found else "")
            return int(bool(found))
        else:
            runs.publish(root, args.names, args.force)
    except ValueError as error:
        print(f"strflab.book {args.step}: {error}", file=sys.stderr)
        return 1
    return 0


def _browse(root: Path) -> list[str]:
    """Browse the site; where no browser is installed say so, which is no problem of the site."""
    try:
        return browser.browse(root)
    except chromium.Missing as why:
        print(f"pages not opened in a browser: skipped, {why}")
        return []


if __name__ == "__main__":
    sys.exit(main())
