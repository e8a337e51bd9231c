"""`strflab models`: what can be fitted, and the arguments of one."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from strflab.cli.text import add_json, as_json, as_words, table

HELP = """List the models that `strflab fit` knows, or show the settings of one.

    strflab models               every model, a line each
    strflab models gru           its settings, its arguments with their defaults, its recipe
    strflab models StateNet      the same: a class's name works too
"""
WIDTH = 100
SIZE = "34 bands, 1 neuron"


def add(commands: Any) -> None:
    """Describe the command to the parser."""
    parser = commands.add_parser("models", help="list the models and their settings", description=HELP)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a model; all when none is given")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print all models, or one."""
    from strflab.cli import settings

    if args.name is not None:
        return _show(settings.find(args.name), args.json)
    rows, above = [], None
    for name in settings.names():
        cls = settings.class_of(name)
        row = {"name": name, "class": cls.__name__, "parameters": _n_parameters(name), "what": settings.summary(cls)}
        if cls is above and not args.json:
            row["what"] = f"the same, {as_words(settings.options_of(name))}"
        rows.append(row)
        above = cls
    if args.json:
        print(as_json(rows))
        return 0
    print(table(rows, ["name", "class", "parameters", "what"]))
    print(f"\nParameters: for {SIZE}. Settings and arguments of one: strflab models NAME")
    return 0


def _show(name: str, json: bool) -> int:
    from strflab.cli import settings

    cls = settings.class_of(name)
    told: dict[str, Any] = {
        "name": name,
        "class": cls.__name__,
        "what": settings.summary(cls),
        "parameters": _n_parameters(name),
        "settings": settings.options_of(name),
        "recipe": {} if name == settings.RIDGE else settings.recipe(name, {}).to_dict(),
        "arguments": settings.arguments(cls),
    }
    if json:
        print(as_json(told))
        return 0
    print(f"{name}: {cls.__module__.rpartition('.')[0]}.{cls.__name__}\n{told['what']}.")
    print(f"\n{told['parameters']} parameters for {SIZE}")
    print("\nSettings; lengths are in frames of 5 ms and become those of your data (change with --set):")
    print(f"  {as_words(told['settings'])}")
    if name != settings.RIDGE:
        changed = {"epochs", "learning_rate", "weight_decay", "batch_size"}
        print("\nRecipe, that of chapters 4 to 6 (change with --recipe; the whole of it with --json):")
        print(f"  {as_words({key: told['recipe'][key] for key in told['recipe'] if key in changed})}")
    print("\nArguments:")
    for row in told["arguments"]:
        print(f"  {as_words({row['argument']: row['default']})}")
        if row["what"]:
            print(textwrap.fill(row["what"], WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return 0


def _n_parameters(name: str) -> int:
    """Numbers that a fit finds, with 34 bands and one neuron."""
    from strflab.cli import settings
    from strflab.data.ns1 import DT_MS

    if name == settings.RIDGE:
        return 34 * settings.options_of(name)["n_lags"] + 1
    return sum(p.numel() for p in settings.build(name, 34, 1, DT_MS, {}).parameters())
