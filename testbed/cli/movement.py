"""Commands that need no lab and no root: data sets, map matching, prediction."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import ResultsError, ScenarioError

if TYPE_CHECKING:
    import pandas as pd

    from testbed.roads.network import RoadMap

data_app = typer.Typer(help="Data sets that you have, made ready for use.", no_args_is_help=True)

MAP_HELP = (
    "A road map: `berlin`, a file (.osm, .osm.gz, .osm.bz2, .pbf, .net.xml, .graphml), "
    "`place:Kreuzberg, Berlin` or `box:WEST,SOUTH,EAST,NORTH` (downloaded from OpenStreetMap)."
)
TRACES_HELP = "CSV or Parquet with the columns time_s, user, lat_deg, lon_deg; or a GeoLife folder."
ENDINGS = (".csv", ".parquet")
_BOX = re.compile(r"box:" + ",".join([r"\s*(-?\d+(?:\.\d+)?)\s*"] * 4))

Map = Annotated[str, typer.Argument(metavar="MAP", help=MAP_HELP)]
Traces = Annotated[Path, typer.Argument(metavar="TRACES", help=TRACES_HELP)]
Out = Annotated[Path, typer.Option("-o", "--out", help="Where to write, .csv or .parquet.")]
TravelMode = Annotated[str, typer.Option("--mode", help="Whose roads: driving, cycling, walking.")]


def match(
    road_map: Map,
    traces: Traces,
    out: Out,
    route: Annotated[
        Path | None, typer.Option(help="Write the driven route of each user, node by node, here.")
    ] = None,
    mode: TravelMode = "driving",
) -> None:
    """Put every fix of every user on the road (hidden-Markov map matching)."""
    for path in (out, *([route] if route else [])):
        _check_ending(path)
    from testbed.mobility.files import read_traces  # noqa: PLC0415
    from testbed.roads.matching.batch import match_traces  # noqa: PLC0415

    trace, report = read_traces(traces)
    typer.echo(str(report))
    matched = match_traces(_roads(road_map, mode), trace)
    _write(matched.fixes, out)
    on_road = int(matched.fixes["from_node"].notna().sum())
    typer.echo(f"{on_road:,} of {len(matched.fixes):,} fixes are on a road\nwrote {out}")
    if route:
        _write(matched.routes, route)
        typer.echo(f"wrote {route}")


def predict(
    road_map: Map,
    traces: Traces,
    out: Out,
    *,
    predictor: Annotated[str, typer.Option(help="Which one; see docs/extending.md.")] = "map-based",
    horizon: Annotated[str, typer.Option(help="How far to look ahead.")] = "30 s",
    steps: Annotated[int, typer.Option(help="So many sites ahead.")] = 3,
    separation: Annotated[str, typer.Option(help="Of stations in a hexagonal grid.")] = "500 m",
    stations: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with name, lat_deg, lon_deg instead.")
    ] = None,
    mode: TravelMode = "driving",
) -> None:
    """Say at every fix which site comes next, how sure that is, and when."""
    _check_ending(out)
    from testbed.mobility.files import read_traces  # noqa: PLC0415
    from testbed.prediction.batch import predict_traces  # noqa: PLC0415
    from testbed.roads.cells import hexagonal_cells  # noqa: PLC0415
    from testbed.roads.coverage import nearest_coverage  # noqa: PLC0415
    from testbed.roads.stations import read_stations, station_cells  # noqa: PLC0415
    from testbed.units import DURATION_S, LENGTH_M, parse_quantity  # noqa: PLC0415

    try:
        separation_m = parse_quantity(separation, LENGTH_M, "length")
        horizon_s = parse_quantity(horizon, DURATION_S, "duration")
    except ValueError as error:
        raise ScenarioError(f"--separation, --horizon: {error}") from error
    trace, report = read_traces(traces)
    typer.echo(str(report))
    roads = _roads(road_map, mode)
    cells = (
        station_cells(roads, read_stations(stations), where=str(stations))
        if stations
        else hexagonal_cells(roads, separation_m)
    )
    rows = predict_traces(
        roads, cells, nearest_coverage(roads, cells), trace,
        predictor=predictor, horizon_s=horizon_s, steps=steps,
    )  # fmt: skip
    _write(rows, out)
    typer.echo(f"{len(rows):,} rows\nwrote {out}")


@data_app.command()
def geolife(
    source: Annotated[
        str, typer.Argument(help="Your download: the folder, the .zip, or its address.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: TESTBED_DATA or the cache.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum that the .zip must have.")] = None,
) -> None:
    """Import GeoLife 1.3: checked, converted to Parquet, ready for scenarios."""
    from testbed.mobility.geolife.importing import import_geolife  # noqa: PLC0415

    typer.echo(str(import_geolife(source, out, sha256=sha256)))


def _roads(source: str, mode: str) -> "RoadMap":
    """The road map that a person named, cached."""
    from testbed.experiment.world import environment_paths  # noqa: PLC0415
    from testbed.hosts.root import default_cache  # noqa: PLC0415
    from testbed.roads.load import load_road_map  # noqa: PLC0415

    named: dict[str, Any] = {"source": source, "mode": mode}
    if source.startswith("place:"):
        named |= {"source": None, "place": source.removeprefix("place:").strip()}
    elif found := _BOX.fullmatch(source):
        named |= {"source": "osm", "box": tuple(float(number) for number in found.groups())}
    return load_road_map(**named, cache=default_cache() / "maps", data_paths=environment_paths())


def _check_ending(path: Path) -> None:
    """Refuse, before anything is read, what could not be written."""
    if path.suffix not in ENDINGS:
        raise ResultsError(f"{path}: cannot be written; name a file ending in .csv or .parquet")
    if not path.parent.is_dir():
        raise ResultsError(f"{path}: there is no folder {path.parent}; make it first")


def _write(rows: "pd.DataFrame", path: Path) -> None:
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        rows.to_parquet(path, index=False)
