"""A checkpoint, and what changed since another one, on one screen of a terminal."""

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from testbed.measurement.summary import human_bytes, human_ms, render

if TYPE_CHECKING:
    from testbed.checkpoints.checkpoint import Checkpoint
    from testbed.checkpoints.difference import Difference

MOST_ROWS = 15
"""Of the largest mappings and images; the rest is told as a sum."""
_NARROW = 60


def facts(checkpoint: "Checkpoint") -> dict[str, str]:
    """What a reader wants to know first."""
    frozen = human_ms(checkpoint.frozen_s)
    told = {
        "checkpoint": str(checkpoint.path),
        "machine": f"{checkpoint.machine}, pages of {checkpoint.page_size:,} bytes",
        "processes": f"{len(checkpoint.processes)}",
        "images": f"{human_bytes(checkpoint.size_bytes)} in {len(checkpoint.images)} files",
        "memory": memory_words(checkpoint),
    }
    return told if math.isnan(checkpoint.frozen_s) else {**told, "frozen": f"{frozen} ms"}


def memory_words(checkpoint: "Checkpoint") -> str:
    """Pages that are in the images, and those that are not."""
    mappings, page = checkpoint.mappings, checkpoint.page_size
    sums = {name: int(mappings[f"{name}_pages"].sum()) for name in ("zero", "parent", "lazy")}
    held = int(mappings["held_bytes"].sum())
    words = [f"{human_bytes(held)} of {human_bytes(int(mappings['size_bytes'].sum()))} mapped"]
    notes = {
        "zero": "only zeros",
        "parent": "in the parent image",
        "lazy": "to be asked for",
    }
    words += [f"{human_bytes(sums[k] * page)} {note}" for k, note in notes.items() if sums[k]]
    return ", ".join(words)


def tree(checkpoint: "Checkpoint") -> list[str]:
    """Processes as a tree, a line for each."""
    rows = checkpoint.processes.to_dict("records")
    pids = {row["pid"] for row in rows}
    lines: list[str] = []

    def add(row: dict[Any, Any], margin: str, mark: str, below: str) -> None:
        threads = f", {row['threads']} threads" if row["threads"] > 1 else ""
        bits = ", 32 bits" if row["bits"] == 32 else ""  # noqa: PLR2004
        state = "" if row["state"] == "alive" else f", {row['state']}"
        about = f"{human_bytes(row['held_bytes'])}{threads}{bits}{state}"
        lines.append(f"{margin}{mark}{row['pid']} {row['command'] or row['name']} ({about})")
        children = [other for other in rows if other["ppid"] == row["pid"]]
        for child in children:
            last = child is children[-1]
            add(child, margin + below, *(("└─ ", "   ") if last else ("├─ ", "│  ")))

    for row in rows:
        if row["ppid"] not in pids:
            add(row, "", "", "")
    return lines


def label(mapping: dict[Any, Any], *, several: bool) -> str:
    """A mapping in a few words; ``several``: processes, so that its own has to be named."""
    name = mapping["path"].rpartition("/")[2]
    words = f"{name} ({mapping['kind']})" if name else f"{mapping['kind']} {mapping['start']:x}"
    return f"{mapping['pid']}: {words}" if several else words


def text(checkpoint: "Checkpoint") -> str:
    """The checkpoint for a terminal, at most 100 columns wide."""
    parts = [_told(facts(checkpoint)), "\n".join(tree(checkpoint))]
    largest = checkpoint.mappings.sort_values("held_bytes", ascending=False)
    shown = largest[largest["held_bytes"] > 0].head(MOST_ROWS)
    rows = [
        [f"{m['pid']}", f"{m['start']:x}", m["access"], m["kind"], human_bytes(m["size_bytes"]),
         human_bytes(m["held_bytes"]), f"{m['zero_pages']}", f"{m['parent_pages']}",
         f"{m['lazy_pages']}", m["path"]]
        for m in shown.to_dict("records")
    ]  # fmt: skip
    head = ["pid", "address", "", "kind", "size", "held", "zero", "parent", "lazy", "file"]
    parts.append(render(head, rows, right=(0, 1, 4, 5, 6, 7, 8)) + _others(largest, shown))
    parts += [
        _table(checkpoint.files, ["pid", "fd", "kind", "access", "position", "what"], (0, 1, 4)),
        _table(
            checkpoint.sockets,
            ["pid", "fd", "protocol", "state", "local", "remote", "received_bytes",
             "unacknowledged_bytes"],
            (0, 1, 6, 7),
        ),
        _images(checkpoint),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def difference_facts(difference: "Difference") -> dict[str, str]:
    """What changed, in sums."""
    sums = {n: int(difference.mappings[f"{n}_pages"].sum()) for n in ("changed", "new", "gone")}
    pages = int(difference.mappings["pages"].sum())
    told = {
        "since": str(difference.previous.path),
        "now": str(difference.checkpoint.path),
        "pages": f"{sums['changed']:,} changed, {sums['new']:,} new, {sums['gone']:,} gone "
        f"of {pages:,}",
        "a delta": f"{human_bytes(difference.changed_bytes)}, in {len(difference.places):,} places",
    }
    for word, tables in (
        ("appeared", difference.appeared),
        ("disappeared", difference.disappeared),
    ):
        counts = [f"{len(rows)} {name}" for name, rows in tables.items() if len(rows)]
        told[word] = ", ".join(counts) or "nothing"
    return told


def difference_text(difference: "Difference") -> str:
    """The difference for a terminal, at most 100 columns wide."""
    parts = [_told(difference_facts(difference))]
    largest = difference.mappings.sort_values("changed_bytes", ascending=False)
    rows = [
        [f"{m['pid']}", f"{m['start']:x}", m["kind"], f"{m['pages']:,}", f"{m['changed_pages']:,}",
         f"{m['new_pages']:,}", f"{m['gone_pages']:,}", human_bytes(m["changed_bytes"]), m["path"]]
        for m in largest[largest["changed_bytes"] + largest["gone_pages"] > 0]
        .head(MOST_ROWS).to_dict("records")
    ]  # fmt: skip
    head = ["pid", "address", "kind", "pages", "changed", "new", "gone", "delta", "file"]
    if rows:
        parts.append(render(head, rows, right=(0, 1, 3, 4, 5, 6, 7)))
    for word, tables in (
        ("Appeared", difference.appeared),
        ("Disappeared", difference.disappeared),
    ):
        for name, rows_of in tables.items():
            if len(rows_of):
                shown = _hexadecimal(rows_of.head(MOST_ROWS))
                parts.append(f"{word}: {name}\n" + _table(shown, list(shown.columns), ()))
    return "\n\n".join(parts)


def _told(about: dict[str, str]) -> str:
    return "\n".join(f"{name:<12} {value}" for name, value in about.items())


def _table(frame: pd.DataFrame, columns: list[str], right: tuple[int, ...]) -> str:
    if not len(frame):
        return ""
    rows = [[f"{value}" for value in row] for row in frame[columns].itertuples(index=False)]
    head = [column.removesuffix("_bytes") for column in columns]
    return render(head, rows, right=right)


def _hexadecimal(frame: pd.DataFrame) -> pd.DataFrame:
    """Addresses as everybody writes them."""
    addresses = [column for column in ("start", "end") if column in frame]
    return frame.assign(**{column: [f"{a:x}" for a in frame[column]] for column in addresses})


def _others(everything: pd.DataFrame, shown: pd.DataFrame) -> str:
    left = everything.drop(shown.index)
    if not len(left):
        return ""
    held = human_bytes(int(left["held_bytes"].sum()))
    return f"\nand {len(left)} mappings more, which hold {held}"


def _images(checkpoint: "Checkpoint") -> str:
    images = checkpoint.images
    rows = [
        [i["image"], human_bytes(i["size_bytes"])]
        for i in images.head(MOST_ROWS).to_dict("records")
    ]
    return render(["image", "size"], rows, right=(1,), width=_NARROW)
