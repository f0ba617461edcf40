import numpy as np
import pandas as pd
import pytest
from driving import ROUTE, drive

from testbed.errors import TraceError
from testbed.roads.matching.batch import match_traces


@pytest.fixture(scope="module")
def mixed(grid, edge_named):
    """Two users' fixes in turn, one of them with a hole that no route bridges."""
    one, _ = drive(grid, edge_named, noise_m=3.0)
    other, _ = drive(grid, edge_named, noise_m=3.0, seed=2)
    other = pd.concat((other.iloc[:20], other.iloc[60:]), ignore_index=True)
    other["time_s"] = np.arange(len(other), dtype=float)
    both = pd.concat((one.assign(user="Ada"), other.assign(user="Ben")))
    both = both.sort_values("time_s", kind="stable", ignore_index=True)
    both.loc[7, "lat_deg"] = np.nan
    return both


def test_rows_keep_their_order_and_users(grid, mixed):
    shuffled = mixed.set_index(pd.Index(np.arange(len(mixed))[::-1]))
    found = match_traces(grid, shuffled, progress=False).fixes
    assert list(found.columns) == [
        *("time_s", "user", "from_node", "to_node", "offset_m", "lat_deg", "lon_deg"),
        *("probability", "reason"),
    ]
    assert found.index.equals(shuffled.index)
    assert found["user"].tolist() == mixed["user"].tolist()
    assert found["time_s"].tolist() == mixed["time_s"].tolist()
    assert "finite" in found["reason"].iloc[7]
    assert pd.isna(found["from_node"].iloc[7])
    on = found["from_node"].notna()
    assert on.sum() == len(found) - 1
    ids = {
        (int(grid.node_ids[a]), int(grid.node_ids[b]))
        for a, b in zip(grid.tail, grid.head, strict=True)
    }
    assert set(zip(found["from_node"][on], found["to_node"][on], strict=True)) <= ids


def test_routes_are_the_nodes_in_driving_order(grid, mixed):
    routes = match_traces(grid, mixed, progress=False).routes
    nodes = [int(name.split("-")[0]) for name in ROUTE] + [int(ROUTE[-1].split("-")[1])]
    ada = routes[routes["user"] == "Ada"]
    assert ada["part"].tolist() == [0] * len(nodes)
    assert ada["sequence"].tolist() == list(range(len(nodes)))
    assert ada["node"].tolist() == nodes
    assert routes[routes["user"] == "Ben"]["part"].unique().tolist() == [0, 1]


def test_one_user_alone_is_matched_as_among_others(grid, mixed):
    together = match_traces(grid, mixed, progress=False)
    alone = match_traces(grid, mixed[mixed["user"] == "Ben"], progress=False)
    expected = together.fixes[together.fixes["user"] == "Ben"]
    pd.testing.assert_frame_equal(alone.fixes, expected)
    assert "Matched traces" in together._repr_html_()
    assert "users: 2" in str(together)


def test_what_cannot_be_matched_is_refused_with_a_remedy(grid, mixed):
    with pytest.raises(TraceError, match=r"lack the columns .*user.*Rename"):
        match_traces(grid, mixed.drop(columns="user"), progress=False)
    with pytest.raises(TraceError, match="no fix"):
        match_traces(grid, mixed.iloc[:0], progress=False)
    with pytest.raises(TraceError, match=r"lat_deg .* numbers"):
        match_traces(grid, mixed.assign(lat_deg="north"), progress=False)


def test_a_user_wholly_off_the_map_has_reasons_and_no_route(grid, mixed):
    found = match_traces(grid, mixed.assign(lat_deg=10.0), progress=False)
    assert set(found.fixes["reason"]) == {"outside the map"}
    assert found.routes.empty
    assert list(found.routes.columns) == ["user", "part", "sequence", "node"]
