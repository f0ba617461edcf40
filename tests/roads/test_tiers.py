import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed import geography as words
from testbed.errors import DataNotFoundError, MapError
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import nearest_coverage
from testbed.roads.layout import cells_of, tiers_of
from testbed.roads.stations import Station, read_stations, station_cells
from testbed.roads.tiers import CLOUD, Tiers, hexagonal_tiers
from testbed.scenario import TIERS

STATIONS = (
    Station("alex", 52.4322, 13.5325), Station("bravo", 52.4352, 13.5325),
    Station("charly", 52.4322, 13.5385),
)  # fmt: skip


@pytest.fixture(scope="module")
def cells(berlin):
    return hexagonal_cells(berlin, 250.0)


@pytest.fixture(scope="module")
def tiers(berlin, cells):
    return hexagonal_tiers(berlin, cells, 1000.0)


def made_tiers(region_of):
    """Cells on a line, under regions as given."""
    count = len(region_of)
    x = np.arange(count) * 100.0
    names = tuple(f"cell-{n:02d}" for n in range(count))
    cells = Cells(names, x, np.zeros(count), np.zeros(count), np.zeros(count), 100.0)
    kept, index = np.unique(region_of, return_inverse=True)
    regions = tuple(f"region-{n:02d}" for n in range(len(kept)))
    return Tiers(cells, regions, index, np.zeros(len(kept)), np.zeros(len(kept)))


@given(region_of=st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_every_tier_parts_the_cells_among_its_sites(region_of):
    tiers = made_tiers(region_of)
    for tier in TIERS:
        parts = [tiers.cells_under(site) for site in tiers.sites(tier)]
        assert all(parts)
        assert sorted(itertools.chain(*parts)) == sorted(tiers.cells.names)
        for site, part in zip(tiers.sites(tier), parts, strict=True):
            assert {tiers.site_of(cell, tier) for cell in part} == {site}
            assert tiers.tier_of(site) == tier
            assert {cell for cell, s in tiers.by_cell(tier).items() if s == site} == set(part)
    for lower, upper in tiers.links:
        assert tiers.above(lower) == upper
        assert lower in tiers.below(upper)
        assert set(tiers.cells_under(lower)) <= set(tiers.cells_under(upper))
    assert len(tiers.links) == len(tiers.cells) + len(tiers.regions)
    assert tiers.above(CLOUD) is None


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_merged_stretches_join_and_have_the_site_of_each_cell(berlin, cells, data):
    coverage = nearest_coverage(berlin, cells)
    sites = data.draw(st.lists(st.integers(0, 3), min_size=len(cells), max_size=len(cells)))
    site = np.array(sites)
    merged = coverage.merged(site, ("a", "b", "c", "d"))
    assert (merged.from_m[merged.start[:-1]] == 0.0).all()
    np.testing.assert_array_equal(merged.to_m[merged.start[1:] - 1], berlin.length_m)
    inner = np.flatnonzero(np.diff(merged.edge_of) == 0)
    np.testing.assert_array_equal(merged.to_m[inner], merged.from_m[inner + 1])
    assert (merged.cell[inner] != merged.cell[inner + 1]).all()
    middle = (coverage.from_m + coverage.to_m) / 2
    for i in range(0, len(middle), 97):
        edge = int(coverage.edge_of[i])
        assert merged.cell_at(edge, middle[i]) == "abcd"[site[coverage.cell[i]]]


def test_coverage_of_a_tier_has_fewer_and_longer_stretches(berlin, cells, tiers):
    coverage = nearest_coverage(berlin, cells)
    counts = [len(tiers.coverage(coverage, tier).cell) for tier in TIERS]
    assert counts[0] == len(coverage.cell)
    assert counts[0] > counts[1] > counts[2] == berlin.edge_count
    assert tiers.coverage(coverage, "cloud").cell_at(0, 1.0) == CLOUD
    assert "regional" in tiers._repr_html_()
    assert "stretches" in coverage._repr_html_()


def test_regions_are_the_nearest_ones_and_are_the_same_every_time(berlin, cells, tiers):
    assert tiers.regions[0] == "region-01"
    assert list(tiers.regions) == sorted(tiers.regions)
    for x, y, region in zip(cells.x_m, cells.y_m, tiers.region_of, strict=True):
        far = np.hypot(tiers.region_x_m - x, tiers.region_y_m - y)
        assert far[region] <= far.min() + 2e-3
    again = hexagonal_tiers(berlin, cells, 1000.0)
    np.testing.assert_array_equal(again.region_of, tiers.region_of)
    assert tiers.distance_m("region-01", tiers.region_x_m[0], tiers.region_y_m[0] + 7) == 7.0
    assert tiers.distance_m("cell-01", cells.x_m[0], cells.y_m[0] + 7) == 7.0
    assert tiers.distance_m(CLOUD, 0.0, 0.0) == math.inf


def test_a_hexagonal_scenario_gets_several_cells_under_each_region(berlin):
    cells = cells_of(words.Cells(separation="150 m"), berlin)
    tiers = tiers_of(words.Tiers(), berlin, cells)
    assert len(cells) / len(tiers.regions) > 6
    wide = tiers_of(words.Tiers(regional={"separation": "20 km"}), berlin, cells)
    assert len(wide.regions) == 1


def test_a_scenario_s_own_stations_and_regions_are_taken_as_they_are(berlin, tmp_path):
    rows = [{"name": s.name, "lat_deg": s.lat_deg, "lon_deg": s.lon_deg} for s in STATIONS]
    table = pd.DataFrame(rows).assign(operator="x")
    table.to_csv(tmp_path / "stations.csv", index=False)
    table.to_parquet(tmp_path / "stations.parquet")
    made = [
        cells_of(words.Cells(stations=rows), berlin),
        cells_of(words.Cells(file="stations.csv"), berlin, [tmp_path]),
        cells_of(words.Cells(layout="stations", file=str(tmp_path / "stations.parquet")), berlin),
    ]
    for cells in made:
        assert cells.names == ("alex", "bravo", "charly")
        np.testing.assert_allclose(cells.lat_deg, [s.lat_deg for s in STATIONS])
        assert cells.separation_m == pytest.approx(333.8, abs=1.0)
        _, lon = berlin.projection.to_latlon(cells.x_m, cells.y_m)
        np.testing.assert_allclose(lon, cells.lon_deg, atol=1e-9)
    groups = {"west": ["alex", "bravo"], "east": ["charly"]}
    by_group = tiers_of(words.Tiers(regional={"groups": groups}), berlin, cells)
    assert by_group.cells_under("west") == ("alex", "bravo")
    assert by_group.region_x_m[0] == pytest.approx((cells.x_m[0] + cells.x_m[1]) / 2)
    placed = [{**rows[2], "name": "east"}, {**rows[0], "name": "west"}]
    by_place = tiers_of(words.Tiers(regional={"stations": placed}), berlin, cells)
    assert by_place.by_cell("regional") == {"alex": "west", "bravo": "west", "charly": "east"}


def moved(index, **changes):
    stations = [vars(s) for s in STATIONS]
    stations[index] = stations[index] | changes
    return [Station(**s) for s in stations]


@pytest.mark.parametrize(
    ("stations", "says"),
    [
        ([], "there is no station"),
        (moved(1, name="alex"), "alex: the name is given to several"),
        (moved(1, lat_deg=52.4322), "alex and bravo stand at the same place"),
        (moved(2, lat_deg=48.1), r"1 of 3 stand more than 2 km outside berlin: charly"),
        (moved(2, lat_deg=13.5385, lon_deg=52.4322), "swapped"),
        (moved(0, lat_deg=math.nan), "no degrees"),
        (moved(0, name=" "), "has no name"),
    ],
)
def test_stations_that_make_no_sense_are_refused(berlin, stations, says):
    with pytest.raises(MapError, match=says):
        station_cells(berlin, stations)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,lat_deg\na,52.4\n", "has no column lon_deg"),
        ("name,lat_deg,lon_deg\na,52.4,13.5\nb,north,13.5\n", "row 2, lat_deg: 'north'"),
        ("name,lat_deg,lon_deg\na,,13.5\n", "row 1, lat_deg"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_malformed_list_is_named_with_its_row(tmp_path, text, says):
    path = tmp_path / "stations.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MapError, match=says):
        read_stations(path)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(MapError, match="Parquet"):
        read_stations(tmp_path / "x.parquet")


def test_a_missing_list_names_where_it_was_looked_for(berlin, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"nowhere\.csv"):
        cells_of(words.Cells(file="nowhere.csv"), berlin, [tmp_path])


@pytest.mark.parametrize(
    ("regional", "says"),
    [
        ({"separation": "100 m"}, "less than the 250 m between base stations"),
        ({"groups": {"west": ["cell-01"]}}, "cells are in none: cell-02"),
        ({"groups": {"west": ["cell-1"]}}, "there is no cell 'cell-1'"),
        ({"groups": {"cell-01": ["cell-01"]}}, "cells are in none"),
        ({"stations": [{"name": "r", "lat_deg": 0, "lon_deg": 0}]}, "outside berlin"),
    ],
)
def test_regions_that_do_not_fit_the_cells_are_refused(berlin, cells, regional, says):
    with pytest.raises(MapError, match=says):
        tiers_of(words.Tiers(regional=regional), berlin, cells)


def test_no_two_sites_have_one_name(berlin, cells):
    with pytest.raises(MapError, match="cloud"):
        tiers_of(words.Tiers(regional={"groups": {"cloud": cells.names}}), berlin, cells)
    with pytest.raises(MapError, match="cell-01"):
        tiers_of(words.Tiers(regional={"groups": {"cell-01": cells.names}}), berlin, cells)


WRONG_BOX = {"west": 2, "south": 0, "east": 1, "north": 1}
ONE = {"name": "a", "lat_deg": 52.4, "lon_deg": 13.5}


@pytest.mark.parametrize(
    ("model", "content", "says"),
    [
        (words.MapSource, {}, "source is missing"),
        (words.MapSource, {"source": "berlin", "place": "Berlin"}, "keep one"),
        (words.MapSource, {"source": "osm"}, "add the box"),
        (words.MapSource, {"source": "berlin", "mode": "flying"}, "walking"),
        (words.MapSource, {"place": "x", "box": WRONG_BOX}, "west"),
        (words.Cells, {"stations": []}, "at least 1"),
        (words.Cells, {"stations": [ONE, ONE]}, "a: given twice"),
        (words.Cells, {"stations": [ONE], "file": "a.csv"}, "stations and file"),
        (words.Cells, {"stations": [ONE], "separation": "500 m"}, "separation"),
        (words.Cells, {"stations": [ONE], "layout": "hexagonal"}, "layout"),
        (words.Cells, {"layout": "stations"}, "list is missing"),
        (words.Cells, {"stations": [{**ONE, "lat_deg": 91}]}, "less than or equal to 90"),
        (words.Cells, {"separation": "0 m"}, "greater than 0"),
        (words.Tiers, {"regional": {"groups": {"a": ["x"], "b": ["x"]}}}, "x is in a already"),
        (words.Tiers, {"regional": {"groups": {"a": []}}}, "at least one cell"),
        (words.Tiers, {"regional": {"groups": {"a": ["x"]}, "separation": "2 km"}}, "keep one"),
    ],
)  # fmt: skip
def test_a_scenario_s_words_are_checked_before_any_map_is_read(model, content, says):
    with pytest.raises(ValidationError, match=says):
        model.model_validate(content)
