"""JSON values made from an SDK's type definitions (pydantic models and TypedDicts), to hold our readers to them."""

import collections.abc
import types
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal, NotRequired, Required, TypeAliasType, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)
DICTS = (dict, collections.abc.Mapping)
UNIONS = (Union, types.UnionType)
WRAPPERS = (Annotated, Required, NotRequired)
CONSTANTS = {int: 1, float: 1.5, bool: True, types.NoneType: None}


def members(kind: Any) -> dict[str, Any]:
    """The alternatives of a union by name, those of the unions inside it too; of another type, itself.

    A class goes by its name, a list by that of what it holds, in brackets.
    """
    kind = _unwrapped(kind)
    if get_origin(kind) in UNIONS:
        return {name: member for part in get_args(kind) for name, member in members(part).items()}
    if get_origin(kind) in LISTS:
        return {f"[{name}]": list[member] for name, member in members(get_args(kind)[0]).items()}  # type: ignore[valid-type]
    return {kind.__name__ if isinstance(kind, type) else str(kind): kind}


def fields(kind: Any) -> dict[str, Any]:
    """The fields of an object's type by their names on the wire, with the type of each."""
    return {name: field for name, (field, _) in _fields(_unwrapped(kind)).items()}


def instance(kind: Any, path: str = "") -> Any:
    """The first of `instances`: it has every field."""
    return next(instances(kind, path))


def instances(kind: Any, path: str = "") -> Iterator[Any]:
    """JSON values of a type: one with every field, one with the required ones, then one for each alternative inside.

    So each literal, each union's member (also None), and each list's kind of element is in one of them at least.
    A string is its own place, such as `output.0.name` under `path`: what a reader found, it says where from. Types
    that are no JSON (files, dates) give nothing; a type inside itself is left out.
    """
    return _values(kind, path, ())


def _values(kind: Any, path: str, inside: tuple[Any, ...]) -> Iterator[Any]:
    kind = _unwrapped(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind in inside:
        return
    if origin is Literal:
        yield from parts
    elif origin in UNIONS:
        for part in parts:
            yield from _values(part, path, inside)
    elif origin in LISTS:
        yield from ([value] for value in _values(parts[0], _join(path, "0"), inside))
    elif origin in DICTS or kind is dict:
        yield from ({"key": value} for value in _values((parts or (str, Any))[1], _join(path, "key"), inside))
    elif kind in (str, object, Any):
        yield path or "text"
    elif kind in CONSTANTS:
        yield CONSTANTS[kind]
    elif inner := _fields(kind):
        yield from _objects(inner, path, (*inside, kind))


def _objects(inner: dict[str, tuple[Any, bool]], path: str, inside: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    values = {name: list(_values(kind, _join(path, name), inside)) for name, (kind, _) in inner.items()}
    whole = {name: alternatives[0] for name, alternatives in values.items() if alternatives}
    yield whole
    if any(not is_required for _, is_required in inner.values()):
        yield {name: value for name, value in whole.items() if inner[name][1]}
    for name, alternatives in values.items():
        yield from (whole | {name: value} for value in islice(alternatives, 1, None))


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Name on the wire → type, and whether it is required; none for what is no object."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            field.alias or name: (field.annotation, field.is_required()) for name, field in kind.model_fields.items()
        }
    if typing_extensions.is_typeddict(kind):
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        return {name: (hint, _is_required(hint, kind.__total__)) for name, hint in hints.items()}
    return {}


def _is_required(hint: Any, default: bool) -> bool:
    """As the SDKs postpone their annotations, `__required_keys__` does not know."""
    wrapper = get_origin(hint)
    if wrapper is Annotated:
        return _is_required(get_args(hint)[0], default)
    return wrapper is Required or (default and wrapper is not NotRequired)


def _unwrapped(kind: Any) -> Any:
    while True:
        if isinstance(kind, TypeAliasType | typing_extensions.TypeAliasType):
            kind = kind.__value__
        elif get_origin(kind) in WRAPPERS:
            kind = get_args(kind)[0]
        else:
            return kind


def _join(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step
