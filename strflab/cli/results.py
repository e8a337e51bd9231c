"""`strflab results`: what is stored, one of it, two compared, and what may go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strflab.cli.text import UsageError, add_json, as_json, as_words, counted, table, usage

if TYPE_CHECKING:
    from strflab.results import StoredFit

HELP = """List stored results, show one, compare two, delete some.

    strflab results                              stored fits and the results of the chapters
    strflab results list fits                    the fits that `strflab fit` wrote to folders below fits/
    strflab results show fits/ln                 scores and record of one
    strflab results compare fits/gru fits/ln     paired over neurons, with an interval
    strflab results prune --name LN              what would be deleted; with --yes it is

A fit is named by its folder, or by its key or the first digits of it. Stored results lie in results/ of the clone, or
where STRFLAB_RESULTS points.
"""
COLUMNS = ("key", "name", "score", "parameters", "data", "neurons", "epochs", "seconds", "date")


def add(commands: Any) -> None:
    """Describe the command to the parser."""
    parser = commands.add_parser("results", help="list, show and compare stored fits", description=HELP)
    add_json(parser)
    parser.set_defaults(run=list_all, folder=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    words = """List stored fits, with their mean CCnorm, and the results of the chapters.

    strflab results list
    strflab results list fits --json"""
    action = actions.add_parser("list", help="all of them (the default)", description=words)
    action.add_argument("folder", nargs="?", type=Path, help="list the fits below this folder instead")
    add_json(action, again=True)
    action.set_defaults(run=list_all)

    words = """Show one fit, or the arrays of a chapter's result.

    strflab results show fits/ln
    strflab results show 02760b
    strflab results show 02_harper_2016"""
    action = actions.add_parser("show", help="one of them", description=words)
    action.add_argument("key", metavar="KEY", help="a key, a folder of a fit, or the name of a chapter")
    add_json(action, again=True)
    action.set_defaults(run=show)

    words = """Compare the scores of two fits, neuron by neuron: A less B. Both must have been scored on the same clips.

    strflab results compare fits/gru fits/ln"""
    action = actions.add_parser("compare", help="two fits, paired over neurons", description=words)
    action.add_argument("a", metavar="A", help="a key or a folder of a fit")
    action.add_argument("b", metavar="B", help="another")
    add_json(action, again=True)
    action.set_defaults(run=compare)

    words = """Delete stored fits. Without --yes it only says which.

    strflab results prune --name LN
    strflab results prune --before 2026-01-01 --yes
    strflab results prune 02760b --yes"""
    action = actions.add_parser("prune", help="delete stored fits", description=words)
    action.add_argument("keys", nargs="*", metavar="KEY", help="delete these")
    action.add_argument("--name", help="delete those of this name")
    action.add_argument("--before", metavar="DATE", help="delete those made before this day, YYYY-MM-DD")
    action.add_argument("--yes", action="store_true", help="do it")
    action.set_defaults(run=prune)


def list_all(args: argparse.Namespace) -> int:
    """Print the stored fits and the results of the chapters."""
    from strflab import results

    if args.folder is not None and not args.folder.is_dir():
        raise UsageError(f"there is no folder {args.folder}")
    fits = [_row(row, args.folder is not None) for row in results.fits(args.folder)]
    chapters = [_chapter(results.load(name)) for name in results.available()] if args.folder is None else []
    if args.json:
        print(as_json({"fits": fits, "chapters": chapters}))
        return 0
    where = args.folder or results.folder()
    if not fits and not chapters:
        print(f"nothing is stored in {where}")
        return 0
    if fits:
        print(table(fits, ["folder" if args.folder else "key", *COLUMNS[1:]]))
        print(f"\n{counted(len(fits), 'fit')} in {where}; score: mean CCnorm over neurons")
    if chapters:
        print("\n" * bool(fits) + table(chapters, ["chapter", "arrays", "data", "device", "seconds", "date"]))
    return 0


def _row(record: dict[str, Any], by_folder: bool) -> dict[str, Any]:
    scored = record["data"]["scored"]
    row = {name: record.get(name) for name in COLUMNS} | {"data": scored["name"], "neurons": scored["neurons"]}
    return row | ({"folder": record["folder"]} if by_folder else {})


def _chapter(result: Any) -> dict[str, Any]:
    came = result.provenance
    told = {"chapter": result.name, "arrays": len(result.arrays)}
    told["data"] = ", ".join(ds["name"] for ds in came.get("datasets", []))
    return told | {name: came.get(name) for name in ("device", "seconds", "date")}


def show(args: argparse.Namespace) -> int:
    """Print one fit or one chapter's result."""
    from strflab import metrics, results

    if args.key in results.available():
        result = results.load(args.key)
        arrays = [{"array": name, "shape": "x".join(map(str, a.shape)) or "-"} for name, a in result.arrays.items()]
        if args.json:
            print(as_json({"chapter": args.key, "provenance": result.provenance, "arrays": arrays}))
        else:
            print(f"{table([_chapter(result)], ['chapter', 'data', 'device', 'seconds', 'date'])}\n")
            print(table(arrays, ["array", "shape"]))
        return 0
    kept = _find(args.key)
    record, summary = kept.record, metrics.summarize(kept.scores)
    if args.json:
        print(as_json(record | {"scores": kept.scores, "summary": summary._asdict(), "model": kept.model.config}))
        return 0
    data = record["data"]
    print(f"{record['name']}: {type(kept.model).__name__}, {record['parameters']} parameters")
    for role, used in data.items():
        print(f"  {role:<11} {used['name']}, {counted(used['neurons'], 'neuron')}, {counted(used['clips'], 'clip')}")
    print(f"  {'CCnorm':<11} {summary}")
    if record["epochs"]:
        print(f"  {'epochs':<11} {record['epochs']}, weights of epoch {record['best_epoch']}")
    print(f"  {'settings':<11} {as_words(record['recipe'])}")
    print(f"  {'made':<11} {record['date']} in {record['seconds']:g} s on {record['device']}, key {record['key']}")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print the paired comparison of two fits."""
    from strflab import metrics, results

    a, b = _find(args.a), _find(args.b)
    with usage():
        found = results.compare(a, b)
    if args.json:
        print(as_json({"a": args.a, "b": args.b} | found._asdict()))
        return 0
    for name, kept in ((args.a, a), (args.b, b)):
        print(f"{name} ({kept.record['name']}): {metrics.summarize(kept.scores)}")
    print(f"{args.a} less {args.b}: {found}")
    return 0


def prune(args: argparse.Namespace) -> int:
    """Delete stored fits, or say which."""
    from datetime import date

    from strflab import results

    if not args.keys and args.name is None and args.before is None:
        raise UsageError("say which: keys, --name or --before; see strflab results prune --help")
    if args.before is not None:
        try:
            date.fromisoformat(args.before)
        except ValueError:
            raise UsageError(f"--before {args.before}: must be a day, YYYY-MM-DD") from None
    keys = {_key(key) for key in args.keys}

    def keep(row: dict[str, Any]) -> bool:
        wanted = (not keys or row["key"] in keys) and (args.name is None or row["name"] == args.name)
        return not (wanted and (args.before is None or row["date"] < args.before))

    going = [row for row in results.fits() if not keep(row)]
    if not going:
        print("no stored fit is meant")
        return 0
    print(table([_row(row, False) for row in going], COLUMNS))
    size = sum(row["megabytes"] for row in going)
    if args.yes:
        results.prune(keep)
    done = "deleted" if args.yes else "would be deleted; give --yes to do it"
    print(f"\n{counted(len(going), 'fit')}, {size:.1f} MB: {done}")
    return 0


def _find(name: str) -> StoredFit:
    """The fit that a folder or the beginning of a key names."""
    from strflab import results

    if (Path(name) / "fit.json").is_file():
        return results.load_fit(Path(name))
    return results.load_fit(_key(name))


def _key(beginning: str) -> str:
    """The only key that begins so."""
    from strflab import results

    keys = [row["key"] for row in results.fits() if row["key"].startswith(beginning)]
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise UsageError(f"{beginning!r} begins {len(keys)} keys: {', '.join(keys)}")
    raise UsageError(f"no stored fit {beginning!r}: neither a folder of strflab fit nor a key of strflab results")
