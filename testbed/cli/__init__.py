"""The ``testbed`` command."""

import os
import platform
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli import checkpoint, movement, planning
from testbed.errors import TestbedError, UnsupportedMachineError

app = typer.Typer(
    help="A laboratory in which a real container follows a moving user.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
lab_app = typer.Typer(help="The hosts of a scenario, without an experiment.", no_args_is_help=True)
app.command()(movement.match)
app.command()(movement.predict)
app.command()(planning.replay)
app.add_typer(movement.data_app, name="data")
app.add_typer(lab_app, name="lab")
app.add_typer(checkpoint.checkpoint_app, name="checkpoint")

CANNOT = 2
"""Exit status where this machine cannot do what is asked; nothing was changed then."""
DEMO = Path(__file__).parents[2] / "data" / "scenarios" / "berlin.yml"

ScenarioPath = Annotated[Path, typer.Argument(help="A scenario file (YAML).")]
LabName = Annotated[str, typer.Option("--name", help="Name of the lab.")]


def require_root_on_linux() -> None:
    """Refuse a machine that cannot hold namespace edges at all."""
    if platform.system() != "Linux":
        raise UnsupportedMachineError(
            f"the lab's hosts are Linux namespaces, and this is {platform.system()}: run it on "
            "Debian 12 or 13 or Ubuntu, for example in a virtual machine"
        )
    if os.geteuid() != 0:
        raise UnsupportedMachineError(
            "making network namespaces, mounts and checkpoints needs root: run it with sudo"
        )


@app.command()
def doctor() -> None:
    """Say what works on this machine, what does not, and the remedy."""
    from testbed.edge import probe  # noqa: PLC0415 - each command imports what it needs
    from testbed.hosts.doctor import examine, examine_edges  # noqa: PLC0415
    from testbed.hosts.root import default_cache, recipe_hash  # noqa: PLC0415

    facts = probe.facts()
    diagnosis = examine(facts)
    typer.echo(str(diagnosis))
    root = default_cache() / "edge-root" / recipe_hash()
    if root.is_dir() and os.geteuid() == 0:
        typer.echo(f"\n{examine_edges(facts, root)}")
    else:
        typer.echo("\nEdges bring their own CRIU; it is built and looked at with the first lab")
    if diagnosis.blocking:
        raise typer.Exit(CANNOT)


@app.command()
def run(
    scenario: ScenarioPath = DEMO,
    duration: Annotated[
        str | None, typer.Option(help='Instead of the scenario\'s: "90 s".')
    ] = None,
    results: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("results"),
    name: LabName = "lab",
    *,
    notebook: Annotated[bool, typer.Option(help="Execute the quickstart notebook on it.")] = True,
) -> None:
    """Run a scenario on hosts of this machine; ends in a table, a notebook and figures."""
    require_root_on_linux()
    from testbed.analysis.notebook import execute  # noqa: PLC0415
    from testbed.analysis.tables import migrations_text  # noqa: PLC0415
    from testbed.experiment.session import run as run_scenario  # noqa: PLC0415

    done = run_scenario(scenario, duration=duration, results=results, name=name)
    if notebook:
        for path in execute(done.folder):
            typer.echo(f"wrote {path}")
    typer.echo(migrations_text(done))
    typer.echo(f"\nResults: {done.folder}")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="Results folder of a run.")]) -> None:
    """Show the results of a run."""
    from testbed.analysis.tables import migrations_text  # noqa: PLC0415
    from testbed.measurement.store import Run  # noqa: PLC0415

    done = Run.open(folder)
    typer.echo(str(done))
    typer.echo(migrations_text(done))


@lab_app.command("up")
def lab_up(scenario: ScenarioPath = DEMO, name: LabName = "lab") -> None:
    """Start and provision the hosts of a scenario; they stay until `testbed lab down`."""
    require_root_on_linux()
    from testbed.experiment.session import bring_up  # noqa: PLC0415
    from testbed.hosts.namespace import ssh_command  # noqa: PLC0415

    up = bring_up(scenario, name=name)
    up.close()
    for host in up.plan.hosts.values():
        typer.echo(f"{host.name:<12} {host.control_address:<14} {host.spec.role} {host.tier}")
    typer.echo(" ".join(ssh_command(up.state, "ADDRESS")))


@lab_app.command("down")
def lab_down(name: LabName = "lab") -> None:
    """Remove everything a lab made, also after a crash."""
    require_root_on_linux()
    from testbed.hosts.namespace import take_down  # noqa: PLC0415

    removed = take_down(name)
    typer.echo("\n".join(removed) if removed else f"there is nothing of lab {name!r} here")


@lab_app.command("status")
def lab_status(name: LabName = "lab") -> None:
    """Say which hosts of a lab answer."""
    from testbed.hosts.namespace import read_state, speaks_ssh  # noqa: PLC0415

    state = read_state(name)
    typer.echo(f"lab {name}: links by {state['backend']}")
    for host, address in dict(state["hosts"]).items():  # type: ignore[call-overload]
        typer.echo(f"{host:<12} {address:<14} {'up' if speaks_ssh(address) else 'does not answer'}")


def _interrupt(*_: object) -> None:
    """End as after Ctrl-C: a lab is taken down first."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; an error a user can meet ends in its own words, not in a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except UnsupportedMachineError as error:
        typer.echo(f"testbed: {error}", err=True)
        sys.exit(CANNOT)
    except TestbedError as error:
        typer.echo(f"testbed: {error}", err=True)
        log = getattr(error, "log", "")
        if log:
            typer.echo(log, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("testbed: interrupted; nothing half done was left", err=True)
        sys.exit(130)
