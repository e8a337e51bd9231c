"""The command line: `strflab data`, `models`, `fit`, `run` and `results`.

A file a command: `add` describes its arguments and imports nothing heavy, so that `--help` is quick; `run` does the
work. Exit status: 0 it worked, 1 the work failed, 2 the command was wrong, 130 it was interrupted. Errors are one line
on stderr.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from strflab.cli import data, fit, models, results, run
from strflab.cli.text import Parser, UsageError

GOOD, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
HELP = """Models of how auditory neurons answer sound, from the command line.

A first session, which needs neither a network nor a recording:

    strflab data                                       what recordings there are, and which are here
    strflab models                                     what can be fitted to them
    strflab fit ridge --data simulated --out fits/ridge
    strflab results compare fits/ridge fits/another    paired over neurons

Your own recording is one .npz file: see strflab fit --help.
"""
EPILOG = """Every command has its own --help, with examples. Tables are printed as JSON with --json.
Exit status: 0 it worked, 1 the work failed, 2 the command was wrong, 130 it was interrupted."""


def parser() -> Parser:
    """Return the parser of the whole command line."""
    from strflab import __version__

    top = Parser(prog="strflab", description=HELP, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"strflab {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (data, models, fit, run, results):
        command.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv : the words after `strflab`; None: those that the program was given
    """
    try:
        status = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


def _run(words: list[str]) -> int:
    """Run one command; return its exit status, errors told on stderr."""
    name = "strflab"
    try:
        args = parser().parse_args(words)
        name = f"strflab {args.command}"
        with warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]
            return args.run(args) or GOOD
    except SystemExit as stop:  # of --help and --version
        return int(stop.code or GOOD)
    except UsageError as error:
        return _say(name, error, WRONG)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return _say(name, error, FAILED)
    except KeyboardInterrupt as stop:
        return _say(name, str(stop) or "interrupted", INTERRUPTED)


def _say(name: str, error: BaseException | str, status: int) -> int:
    """Write one line on stderr and return the status."""
    line = " ".join(str(error).split()) or type(error).__name__
    print(f"{name}: {line}", file=sys.stderr)
    return status


def _warn(message: Warning | str, *unused: Any) -> None:
    _say("strflab: warning", str(message), GOOD)
