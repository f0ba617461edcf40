"""Protobuf messages, read without protobuf's own library: a table says what a number means.

CRIU's Python package comes with CRIU, so an edge has it, and the machine of whoever looks at a
checkpoint often has not. Only fields that somebody shows stand in the tables
(`testbed.checkpoints.formats`); all others are skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from testbed.edge.images import varint

Kind = Literal["number", "zigzag", "bytes", "text", "message"]
Table = Mapping[int, "Field"]
"""The fields of one kind of message by their numbers."""
_VARINT, _EIGHT_BYTES, _WITH_LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field of a message.

    kind : ``zigzag`` is a number that may be negative (``sint32``, ``sint64``). of : the fields of
    a message within. many : there may be several; the value is a list then, empty for none.
    needed : a message without it is broken.
    """

    name: str
    kind: Kind = "number"
    of: Table | None = None
    many: bool = False
    needed: bool = False


def decode(data: bytes, table: Table) -> dict[str, Any]:
    """Read one message: the values of the table's fields that are in it, by name.

    Raises
    ------
    ValueError
        If the content ends within a field, lacks one, or is no message at all.
    """
    found: dict[str, Any] = {field.name: [] for field in table.values() if field.many}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = _value(data, at, key & 7)
        field = table.get(key >> 3)
        if field is None:
            continue
        if field.many and isinstance(value, bytes) and field.kind in {"number", "zigzag"}:
            found[field.name] += _packed(value, field)
        elif field.many:
            found[field.name].append(_meaning(value, field))
        else:
            found[field.name] = _meaning(value, field)
    for field in table.values():
        if field.needed and field.name not in found:
            raise ValueError(f"a message without {field.name}")
    return found


def _value(data: bytes, at: int, wire: int) -> tuple[int | bytes, int]:
    """The content of the field that begins at ``at``, and where the next one begins."""
    if wire == _VARINT:
        return varint(data, at)
    if wire == _WITH_LENGTH:
        size, at = varint(data, at)
    elif wire in {_EIGHT_BYTES, _FOUR_BYTES}:
        size = 8 if wire == _EIGHT_BYTES else 4
    else:
        raise ValueError(f"no message: a field of the unknown kind {wire} at byte {at}")
    if at + size > len(data):
        raise ValueError(f"cut short at byte {len(data)}")
    return bytes(data[at : at + size]), at + size


def _meaning(value: int | bytes, field: Field) -> Any:
    if isinstance(value, int):
        if field.kind not in {"number", "zigzag"}:
            raise ValueError(f"no message of its kind: a number for {field.name}")
        return (value >> 1) ^ -(value & 1) if field.kind == "zigzag" else value
    if field.kind == "message" and field.of is not None:
        return decode(value, field.of)
    if field.kind == "text":
        return value.decode("utf-8", errors="replace")
    if field.kind == "bytes":
        return value
    raise ValueError(f"no message of its kind: {len(value)} bytes for {field.name}")


def _packed(data: bytes, field: Field) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = varint(data, at)
        values.append(_meaning(value, field))
    return values
