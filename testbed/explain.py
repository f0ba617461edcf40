"""Words for what is wrong with a file: the key, the problem, the nearest right thing.

Knows pydantic's models and problems, and nothing of what the models mean.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest of the known names, or at all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else ""


def keys(model: type[BaseModel]) -> list[str]:
    """The keys a file may have where ``model`` stands."""
    return [name for name, field in model.model_fields.items() if not field.exclude]


def explain(problem: Any, model: type[BaseModel]) -> str:
    """One line for one pydantic problem with a file that ``model`` describes."""
    where = problem["loc"]
    parts, _ = _walk(model, where)
    key = ".".join(parts)
    if problem["type"] == "extra_forbidden":
        _, around = _walk(model, where[:-1])
        hint = nearest(parts[-1], keys(around)) if around else ""
        return f"{key}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{key}: is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _walk(
    model: type[BaseModel], where: Sequence[int | str]
) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of a place as the file has them, and the model there.

    Pydantic puts the tag of a discriminated union among the keys; it is not one.
    """
    parts: list[str] = []
    here: Any = model
    for part in where:
        options = [o for o in _options(here) if _is_model(o)]
        if len(options) > 1:
            here = next((o for o in options if part in _tags(o)), None)
            continue
        parts.append(str(part))
        if options:
            field = options[0].model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            inner = typing.get_args(here)
            here = inner[-1] if typing.get_origin(here) is dict else (inner or [None])[0]
    models = [o for o in _options(here) if _is_model(o)]
    return parts, models[0] if len(models) == 1 else None


def _options(annotation: Any) -> list[Any]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return list(typing.get_args(annotation))
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Literal values of the model's fields: what can tell it from its siblings."""
    kinds = [field.annotation for field in model.model_fields.values()]
    literals = [kind for kind in kinds if typing.get_origin(kind) is typing.Literal]
    return {value for literal in literals for value in typing.get_args(literal)}
