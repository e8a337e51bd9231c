"""Every public name says what it is, names its parameters, and stands in the book's reference.

Public is what a module's ``__all__`` lists, and in a module without one that the reference shows, its functions and
classes; of a class also the methods and properties that strflab wrote. A parameter is described where the docstring
names it: in a list of parameters, in backticks, or, if it has more than two letters, in a sentence. A docstring may say
that its parameters are "those of `another`". A method may leave to its class, or to the method that it overrides, what
is said there.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import strflab

PAGES = sorted((Path(__file__).parents[1] / "book").glob("api*.md"))
REFERENCE = "\n".join(page.read_text("utf8") for page in PAGES)
SHOWN = re.findall(r"^\.\. automodule:: (\S+)$", REFERENCE, re.MULTILINE)
FIELD = re.compile(r"^\s*(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", re.MULTILINE)
LENT = re.compile(r"\b[Tt]h(?:ose|at) of (`.*?)(?:\.\s|\.$|;|$)")  # the rest of the sentence


def modules() -> list[ModuleType]:
    """Every module with an ``__all__``, and every one in the reference."""
    found = [m.name for m in pkgutil.walk_packages(strflab.__path__, "strflab.") if "._" not in m.name]
    every = [importlib.import_module(name) for name in found]
    return [m for m in every if hasattr(m, "__all__") or m.__name__ in SHOWN]


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Names of a module, and what they stand for."""
    if hasattr(module, "__all__"):
        yield from ((name, getattr(module, name)) for name in module.__all__)
        return
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that strflab wrote, its own and inherited ones."""
    for name in dir(cls):
        owner = next((c for c in cls.__mro__ if name in vars(c)), object)
        if name.startswith("_") or not owner.__module__.startswith("strflab"):
            continue
        value = vars(owner)[name]
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if inspect.isfunction(value) or isinstance(value, property | cached_property):
            yield name, value


def lineage(cls: type) -> list[type]:
    return [c for c in cls.__mro__ if c.__module__.startswith("strflab")]


def text_of(value: Any, owner: type | None = None, depth: int = 0) -> str:
    """Where the parameters of a function, a method of `owner` or a class may be described."""
    if inspect.isclass(value):
        parts = [doc for c in lineage(value) for doc in (c.__doc__, getattr(vars(c).get("__init__"), "__doc__", None))]
    elif owner is not None:
        above = [vars(c).get(value.__name__) for c in lineage(owner)]
        parts = [value.__doc__, *(getattr(method, "__doc__", None) for method in above)]
        parts += [c.__doc__ for c in lineage(owner)]
    else:
        parts = [value.__doc__]
    text = "\n".join(filter(None, parts))
    if depth < 3:
        for sentence in LENT.findall(re.sub(r"\s+", " ", text)):
            for name in re.findall(r"`([\w.]+)`", sentence):
                other = resolved(name, value, owner)
                text += "\n" + (text_of(other, depth=depth + 1) if other is not None else "")
    return text


def resolved(name: str, value: Any, owner: type | None) -> Any:
    """What a name in a docstring stands for: None where it is no function or class."""
    module = sys.modules[value.__module__]
    places = [owner, module, *(getattr(strflab, part) for part in strflab._MODULES), strflab]
    for place in places:
        found = place
        for part in name.removeprefix("strflab.").split("."):
            found = getattr(found, part, None)
        if inspect.isfunction(found) or inspect.isclass(found):
            return found
    return None


def undescribed(value: Callable, text: str) -> list[str]:
    """Parameters that a text does not name."""
    fields = {word.strip("* ") for match in FIELD.finditer(text) for word in match[1].split(",")}
    spans = {word for span in re.findall(r"`+([^`]+)`+", text) for word in re.findall(r"\w+", span)}
    told = fields | spans | {word for word in re.findall(r"\w+", text) if len(word) > 2}
    try:
        signature = inspect.signature(value)
    except ValueError:  # an exception: what it takes is its message
        return []
    passed_on = {"args", "kwargs"}
    return [name for name in signature.parameters if name not in {"self", "cls", *told, *passed_on}]


def inventory() -> dict[str, tuple[Any, type | None]]:
    """Each public name once, with the class that a method belongs to."""
    found: dict[str, tuple[Any, type | None]] = {}
    seen = set()
    for module in modules():
        for name, value in public(module):
            label = f"{module.__name__}.{name}"
            found[label] = (value, None)
            if isinstance(value, ModuleType) or not callable(value):
                continue
            if value in seen:  # under another name already
                del found[label]
                continue
            seen.add(value)
            if inspect.isclass(value):
                found |= {f"{label}.{member}": (method, value) for member, method in members(value)}
    return found


EVERY = inventory()


def test_the_rules_find_what_is_missing():
    def plain(a, bands, kernel):
        """Return ``a`` of some bands."""

    def lent(dt_ms, ms, kernel):
        """Parameters are those of `strflab.reverse_correlation.lags_from_ms`."""

    assert undescribed(plain, text_of(plain)) == ["kernel"]
    assert undescribed(lent, text_of(lent)) == ["kernel"]
    assert len(EVERY) > 600


def test_every_public_name_has_a_docstring():
    missing = []
    for label, (value, owner) in EVERY.items():
        if owner is not None:
            parts = [vars(c).get(label.rpartition(".")[2]) for c in owner.__mro__]
            documented = any(getattr(part, "__doc__", None) for part in parts)
        elif isinstance(value, ModuleType) or callable(value):
            documented = bool(vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__)
        else:
            documented = True  # a constant: the reference, below, shows it only with its comment
        if not documented:
            missing.append(label)
    assert missing == []


def test_every_parameter_is_described():
    missing = [
        f"{label}({name})"
        for label, (value, owner) in EVERY.items()
        if inspect.isclass(value) or inspect.isfunction(value)
        for name in undescribed(value, text_of(value, owner))
    ]
    assert missing == []


def test_every_public_name_is_in_the_reference(tmp_path):
    sphinx = pytest.importorskip("sphinx.application")
    source = tmp_path / "src"
    source.mkdir()
    (source / "index.md").write_text(REFERENCE, "utf8")
    settings = {
        "extensions": ["myst_parser", "sphinx.ext.autodoc", "strflab.book.docstrings", "sphinx.ext.napoleon"],
        "autodoc_typehints": "none",
    }
    app = sphinx.Sphinx(
        source, None, tmp_path, tmp_path, "dummy", confoverrides=settings, status=None, warning=None, freshenv=True
    )
    app.build()
    shown = set(app.env.get_domain("py").objects)
    missing = [label for label, (_, owner) in EVERY.items() if owner is None and label not in shown]
    assert missing == []
