"""Commands about checkpoints: look into one, take one in a lab."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

checkpoint_app = typer.Typer(help="Look inside a checkpoint.", no_args_is_help=True)

TABLES = ("processes", "mappings", "files", "sockets", "images")

CheckpointPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder of CRIU's images, or an archive of one.")
]


@checkpoint_app.command()
def show(
    path: CheckpointPath,
    since: Annotated[
        Path | None, typer.Option(metavar="PREVIOUS", help="Say what changed since this one.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Every row, for programs.")] = False,
) -> None:
    """Show processes, memory by mapping, files, sockets and sizes, or what changed and where."""
    from testbed.checkpoints.checkpoint import Checkpoint  # noqa: PLC0415 - as in each command

    checkpoint = Checkpoint.open(path)
    if since is None:
        tables = {name: _rows(getattr(checkpoint, name)) for name in TABLES}
        typer.echo(json.dumps(tables) if as_json else str(checkpoint))
        return
    difference = checkpoint.difference(Checkpoint.open(since))
    if not as_json:
        typer.echo(str(difference))
        return
    told = {"mappings": _rows(difference.mappings), "places": _rows(difference.places)}
    for word in ("appeared", "disappeared"):
        told[word] = {name: _rows(rows) for name, rows in getattr(difference, word).items()}
    typer.echo(json.dumps(told))


@checkpoint_app.command()
def take(
    host: Annotated[str, typer.Argument(help="The host of the lab where the service runs.")],
    service: Annotated[str, typer.Argument(help="Its name in the scenario.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The archive to write (tar).")],
    name: Annotated[str, typer.Option("--name", help="Name of the lab.")] = "lab",
) -> None:
    """Take a checkpoint of a service in a lab; it stands still meanwhile and goes on."""
    from testbed.checkpoints.take import take as take_checkpoint  # noqa: PLC0415

    typer.echo(f"wrote {take_checkpoint(name, host, service, out)}")


def _rows(frame: "pd.DataFrame") -> Any:
    return json.loads(frame.to_json(orient="records"))
