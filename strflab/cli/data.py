"""`strflab data`: what recordings there are, fetch one, check its files, say where they are."""

from __future__ import annotations

import argparse
import os
from typing import Any

from strflab.cli.text import add_json, as_json, key_values, usage

HELP = """List the data sets, or fetch, check or find one.

    strflab data                      every data set, with size, licence and where it is
    strflab data fetch zebra_finch    download it, checked; what is here is not fetched again
    strflab data verify ns1           compare its files with the published SHA-256
    strflab data where                the folders in which recordings are looked for
    strflab data where ns1            the folder that holds one

Recordings are kept in $STRFLAB_DATA if that is set, else in the cache folder of your user.
"""
LABELS = ("what", "size", "licence", "citation", "where")


def add(commands: Any) -> None:
    """Describe the command to the parser."""
    parser = commands.add_parser("data", help="list, fetch and check recordings", description=HELP)
    add_json(parser)
    parser.set_defaults(run=list_all)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    words = "List every data set, and say which are here.\n\n    strflab data list --json"
    action = actions.add_parser("list", help="every data set (the default)", description=words)
    add_json(action, again=True)
    action.set_defaults(run=list_all)

    words = """Download a recording, unless it is here, and read it once.

    strflab data fetch zebra_finch
    strflab data fetch nat4 --load area=PEG

A download that was interrupted goes on where it stopped."""
    action = actions.add_parser("fetch", help="download one", description=words)
    action.add_argument("name", metavar="NAME", help="of a data set, as strflab data lists it")
    action.add_argument(
        "--load", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="options of the set"
    )
    action.set_defaults(run=fetch)

    words = "Compare the files of a recording with their published SHA-256.\n\n    strflab data verify ns1"
    action = actions.add_parser("verify", help="check the files of one", description=words)
    action.add_argument("name", metavar="NAME", help="of a data set, as strflab data lists it")
    action.set_defaults(run=verify)

    words = """Print the folder that holds a recording, or the folders in which all are looked for.

    strflab data where
    strflab data where ns1"""
    action = actions.add_parser("where", help="the folder of one, or of all", description=words)
    action.add_argument("name", nargs="?", metavar="NAME", help="of a data set, as strflab data lists it")
    action.set_defaults(run=where)


def list_all(args: argparse.Namespace) -> int:
    """Print every data set."""
    from strflab import data

    rows = [row | {"where": _place(row["name"])} for row in data.available()]
    if args.json:
        print(as_json([row | {"here": row["here"] == "yes", "where": data.where(row["name"])} for row in rows]))
        return 0
    for row in rows:
        print(f"{row['name']} ({'here' if row['here'] == 'yes' else 'not here'})")
        print("\n".join(f"  {label:<9} {row[label]}" for label in LABELS), end="\n\n")
    print("Load one with strflab.data.load(NAME), or fit a model to it: strflab fit --help")
    return 0


def _place(name: str) -> str:
    """Where a data set is, or how it comes here."""
    from strflab import data

    if not data.is_here(name):
        return f"not here: strflab data fetch {name}"
    return str(data.where(name) or "computed when asked for")


def fetch(args: argparse.Namespace) -> int:
    """Load a recording, which fetches it."""
    from strflab import data

    options = key_values("--load", args.load)
    with usage():
        data.is_here(args.name)  # raises if there is no such set
    print(data.load(args.name, **options))
    print(f"\nin {data.where(args.name) or 'no folder: it is computed when asked for'}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Check the files of a recording."""
    from strflab import data

    with usage():
        data.is_here(args.name)
    n_files = data.verify(args.name)
    if n_files:
        print(f"{args.name}: {n_files} files are as published, in {data.where(args.name)}")
    elif data.where(args.name) is None:
        print(f"{args.name}: {'no files to check' if data.is_here(args.name) else 'not here'}")
        return int(not data.is_here(args.name))
    else:
        print(f"{args.name}: no sums of its files are known; their structure is checked whenever they are read")
    return 0


def where(args: argparse.Namespace) -> int:
    """Print folders."""
    from strflab import data
    from strflab.data.fetch import data_folders

    if args.name is None:
        shared = os.environ.get("STRFLAB_DATA")
        print(f"STRFLAB_DATA  {shared or 'not set'}")
        print(f"cache         {data_folders('.')[-1]}")
        return 0
    with usage():
        here = data.is_here(args.name)
    folder = data.where(args.name)
    if folder is not None:
        print(folder)
        return 0
    if here:
        print(f"{args.name} has no files: it is computed when asked for")
        return 0
    looked = " nor ".join(str(folder) for folder in data_folders(args.name))
    raise FileNotFoundError(f"{args.name} is not in {looked}: strflab data fetch {args.name}")
