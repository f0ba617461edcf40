"""The command that compares planners without a lab."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.errors import ScenarioError


def replay(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML).")],
    planner: Annotated[
        list[str] | None, typer.Option(help="One of those to compare; default: all installed.")
    ] = None,
    ahead: Annotated[
        str | None,
        typer.Option(
            help='Sent for each migration, "800 MB"; default: as measured of the service.'
        ),
    ] = None,
    rate: Annotated[str, typer.Option(help="Of the link between servers.")] = "100 Mbit/s",
) -> None:
    """Go through a scenario's ways with several planners, in seconds and without hosts."""
    import pandas as pd  # noqa: PLC0415

    from testbed.analysis.replays import replay_text  # noqa: PLC0415
    from testbed.experiment.replay import Cargo, watch_all  # noqa: PLC0415
    from testbed.experiment.replay import replay as replay_ways  # noqa: PLC0415
    from testbed.experiment.world import World  # noqa: PLC0415
    from testbed.hosts.root import default_cache  # noqa: PLC0415
    from testbed.scenario import read_scenario  # noqa: PLC0415
    from testbed.services.service import find_service  # noqa: PLC0415
    from testbed.units import RATE_BPS, SIZE_BYTES, parse_quantity  # noqa: PLC0415

    try:
        rate_bps = parse_quantity(rate, RATE_BPS, "rate")
        ahead_bytes = parse_quantity(ahead, SIZE_BYTES, "size") if ahead else None
    except ValueError as error:
        raise ScenarioError(f"--ahead, --rate: {error}") from error
    wanted = read_scenario(scenario)
    world = World.load(wanted, default_cache())
    tables = []
    for name, user in wanted.users.items():
        kind = find_service(wanted.services[user.service].kind)
        cargo = (
            Cargo.of(kind.memory, rate_bps)
            if ahead_bytes is None
            else Cargo(ahead_bytes, rate_bps=rate_bps)
        )
        seen = {name: watch_all(world, name)}
        tables.append(replay_ways(world, cargo, planner or (), sightings=seen))
    typer.echo(replay_text(pd.concat(tables)))
