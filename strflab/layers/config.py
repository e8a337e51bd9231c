"""Parts that remember how they were made, so that a model can be written to disk and made again.

A `Configurable` class records the arguments of its constructor; `.config` is that record as plain JSON values,
nested parts included, and `from_config` makes an equal object. No pickle is involved.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

REGISTRY: dict[str, type] = {}  # class name -> class, filled as classes are defined
SPEC = "spec"  # marks, in a saved config, the dict by which a part was asked for, as against a part's own config
SHORT_NAMES: dict[type, str] = {}  # class of torch, without options -> the name that a constructor takes for it


class Configurable:
    """Base of everything that a saved model may contain: records its constructor's arguments.

    Examples
    --------
    >>> from strflab.layers import ParametricSoftplus
    >>> ParametricSoftplus(3).config["n_neurons"]
    3
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        REGISTRY[cls.__name__] = cls
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    @property
    def config(self) -> dict[str, Any]:
        """The class name under ``"type"`` and every constructor argument, as JSON values."""
        arguments = self.__dict__.get("_arguments", {})
        return {"type": type(self).__name__} | {name: to_config(name, v) for name, v in arguments.items()}


def to_config(name: str, value: Any) -> Any:
    """Return `value` as JSON values; raise ``ValueError`` naming the argument if it cannot be saved."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [to_config(f"{name}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, dict):
        options = {str(k): to_config(f"{name}[{k!r}]", v) for k, v in value.items()}
        return {SPEC: options} if "type" in options else options
    if isinstance(value, Configurable):
        return value.config
    if type(value) in SHORT_NAMES:
        return SHORT_NAMES[type(value)]
    if hasattr(value, "tolist"):  # arrays and tensors of numbers: frequencies, say
        return value.tolist()
    raise ValueError(
        f"{name}={value!r} cannot be saved: use a name, a number, or a part derived from strflab.layers.Configurable"
    )


def from_config(config: Any) -> Any:
    """Make the object that `config` describes; values that describe no part are returned as they are."""
    if isinstance(config, list):
        return [from_config(v) for v in config]
    if not isinstance(config, dict):
        return config
    if config.keys() == {SPEC}:  # asked for by a dict: the constructor that takes it adds what it knows
        return {name: from_config(v) for name, v in config[SPEC].items()}
    values = {name: from_config(v) for name, v in config.items()}
    if values.get("type") not in REGISTRY:
        return values
    return REGISTRY[values.pop("type")](**values)


def registered(name: str, base: type) -> type | None:
    """Return the class of this name that is derived from `base`; None if there is none, or it is a private one."""
    found = REGISTRY.get(name)
    known = found is not None and issubclass(found, base) and found is not base and not name.startswith("_")
    return found if known else None


def make_part(name: str, spec: Any, base: type, names: dict[str, type]) -> Any:
    """Return the part that `spec` asks for: an instance as it is, a name, or a dict with ``"type"`` and options.

    `names` maps the short names that users write to classes. The name of any class derived from `base` is understood as
    well, also of one that is defined outside of this library.
    """
    if isinstance(spec, base):
        return spec
    options: dict[str, Any] = {}
    kind = spec
    if isinstance(spec, dict):
        options = {k: v for k, v in spec.items() if k != "type"}
        kind = spec.get("type")
    found = None
    if isinstance(kind, str):
        found = names.get(kind.lower()) or registered(kind, base)
    if found is None:
        raise ValueError(
            f"{name}={spec!r}: must be one of {', '.join(repr(n) for n in names)}, a dict with that name as 'type', "
            f"or a {base.__name__}"
        )
    try:
        return found(**options)
    except TypeError as error:
        raise ValueError(f"{name}={spec!r}: {error}") from None


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that the outermost call leaves its arguments, defaults included, in ``_arguments``."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **keywords: Any) -> None:
        if "_arguments" not in self.__dict__:
            bound = signature.bind(self, *args, **keywords)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            arguments.pop(next(iter(signature.parameters)))
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    arguments |= arguments.pop(parameter.name, {})
            self.__dict__["_arguments"] = arguments
        init(self, *args, **keywords)

    return wrapper
