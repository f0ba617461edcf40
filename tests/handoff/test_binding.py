import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.handoff.binding import Binder, Binding

SITES = [f"cell-{n}" for n in range(6)]


@st.composite
def walks(draw):
    """A binder, and what a follower would ask of it one after another."""
    servers = [f"edge-{n}" for n in range(draw(st.integers(2, 4)))]
    stations = [f"bs-{n}" for n in range(draw(st.integers(2, 4)))]
    # At least two servers stay free, so that there is always one to go to.
    some = draw(st.integers(0, max(0, len(servers) - 2)))
    fixed = dict(zip(draw(st.permutations(SITES))[:some], servers[:some], strict=True))
    asked = draw(
        st.lists(
            st.tuples(
                st.sampled_from(SITES),
                st.sampled_from(["", *servers]),
                st.sampled_from(["", *stations]),
            ),
            min_size=1,
            max_size=12,
        )
    )
    return Binder(servers, stations, fixed), asked


def steps(walk):
    """Each question with its answer; ones that a fixed site forbids are passed over."""
    binder, asked = walk
    for site, server, station in asked:
        if server and binder.fixed.get(site) == server:
            with pytest.raises(ScenarioError):
                binder.bind(site, server_in_use=server, station_in_use=station)
            continue
        yield site, server, station, binder.bind(site, server_in_use=server, station_in_use=station)


@given(walks())
def test_a_site_never_gets_a_host_that_is_in_use(walk):
    for site, server, station, binding in steps(walk):
        assert binding.site == site
        assert binding.server in walk[0].servers
        assert binding.base_station in walk[0].base_stations
        assert binding.server != server
        assert binding.base_station != station


@given(walks())
def test_no_host_ever_stands_for_two_sites(walk):
    binder = walk[0]
    for *_, binding in steps(walk):
        known = [found for site in SITES if (found := binder.known(site))]
        assert binding in known
        assert len({b.server for b in known}) == len(known)
        assert len({b.base_station for b in known}) == len(known)


@given(walks())
def test_a_new_binding_ends_the_older_ones_of_its_hosts_and_no_others(walk):
    binder = walk[0]
    before = {}
    for site, _, _, binding in steps(walk):
        after = {name: found for name in SITES if (found := binder.known(name))}
        kept = {
            name: old
            for name, old in before.items()
            if name != site
            and old.server != binding.server
            and old.base_station != binding.base_station
        }
        assert after == {**kept, site: binding}
        before = after


@given(walks())
def test_a_site_that_the_scenario_fixed_is_always_on_its_server_and_nobody_else_is(walk):
    fixed = walk[0].fixed
    for site, _, _, binding in steps(walk):
        if site in fixed:
            assert binding.server == fixed[site]
        else:
            assert binding.server not in fixed.values()


@given(walks())
def test_a_binding_stays_while_nothing_is_in_its_way(walk):
    binder = walk[0]
    for site, _, _, binding in steps(walk):
        assert binder.bind(site) == binding
        others = [s for s in binder.servers if s != binding.server]
        assert binder.bind(site, server_in_use=others[0]) == binding


@given(st.integers(2, 4))
def test_a_server_and_its_own_base_station_stay_together_where_they_can(number):
    binder = Binder([f"edge-{n}" for n in range(number)], [f"bs-{n}" for n in range(number)])
    at = binder.bind("cell-0")
    for n in range(1, 10):
        at = binder.bind(f"cell-{n}", server_in_use=at.server, station_in_use=at.base_station)
        assert at.server.removeprefix("edge-") == at.base_station.removeprefix("bs-")


def binder(**fixed):
    return Binder(["edge-1", "edge-2"], ["bs-1", "bs-2"], fixed)


def test_the_first_site_gets_the_first_hosts():
    assert binder().bind("a") == Binding("a", "edge-1", "bs-1")


def test_two_pairs_of_hosts_are_enough_for_any_number_of_sites():
    hosts = binder()
    at = hosts.bind("a")
    for site in "bcabdcba":
        new = hosts.bind(site, server_in_use=at.server, station_in_use=at.base_station)
        assert {new.server, at.server} == {"edge-1", "edge-2"}
        assert {new.base_station, at.base_station} == {"bs-1", "bs-2"}
        at = new


def test_a_server_whose_station_is_free_is_preferred():
    assert binder().bind("a", station_in_use="bs-1") == Binding("a", "edge-2", "bs-2")


def test_where_the_station_beside_is_in_use_another_is_taken():
    bound = binder().bind("a", server_in_use="edge-2", station_in_use="bs-1")
    assert bound == Binding("a", "edge-1", "bs-2")


def test_a_server_without_a_station_of_its_own_gets_one_all_the_same():
    hosts = Binder(["edge-1", "edge-2", "edge-3"], ["bs-1"])
    assert hosts.bind("a", server_in_use="edge-1") == Binding("a", "edge-2", "bs-1")


def test_when_nothing_is_free_the_remedy_is_said():
    only = Binder(["edge-1"], ["bs-1", "bs-2"])
    with pytest.raises(ScenarioError, match="no server is free for site b; add one to hosts"):
        only.bind("b", server_in_use="edge-1")
    with pytest.raises(ScenarioError, match="no server is free for site c"):
        binder(a="edge-1", b="edge-2").bind("c")


def test_a_fixed_site_whose_server_holds_the_service_elsewhere_is_refused():
    hosts = binder(a="edge-1")
    with pytest.raises(ScenarioError, match=r"sites\.a: edge-1 holds the service already"):
        hosts.bind("a", server_in_use="edge-1")
    assert hosts.known("a") is None


def test_a_site_that_was_never_bound_is_not_known():
    assert binder().known("a") is None


# -- sites above the cells


UPPER = {
    **{f"region-{n}": ["regional-1", "regional-2"] for n in range(3)},
    "cloud": ["cloud"],
}


def tiered():
    return Binder(["edge-1", "edge-2"], ["bs-1", "bs-2"], {}, UPPER)


def test_a_site_above_the_cells_gets_a_server_of_its_tier_and_no_base_station():
    hosts = tiered()
    assert hosts.bind("region-0") == Binding("region-0", "regional-1", "")
    assert hosts.bind("cloud") == Binding("cloud", "cloud", "")
    assert hosts.bind("region-1", server_in_use="regional-1").server == "regional-2"


@given(st.lists(st.sampled_from([*SITES, *UPPER]), min_size=1, max_size=12))
def test_between_tiers_too_source_and_target_are_never_the_same(asked):
    hosts, here, server, station = tiered(), "", "", ""
    for site in asked:
        if site == here:
            continue
        binding = hosts.bind(site, server_in_use=server, station_in_use=station)
        assert binding.server != server
        assert binding.server in UPPER.get(site, ["edge-1", "edge-2"])
        assert bool(binding.base_station) == (site not in UPPER)
        here, server = site, binding.server
        station = binding.base_station or station


def test_the_cells_that_a_user_passes_leave_the_region_s_server_alone():
    hosts = tiered()
    region = hosts.bind("region-0")
    station = ""
    for cell in "abcab":
        station = hosts.bind(cell, server_in_use="regional-1", station_in_use=station).base_station
        assert hosts.known("region-0") == region


def test_a_server_that_was_sent_to_ahead_stays_of_use_when_its_base_station_is_taken():
    hosts = Binder(["edge-1", "edge-2", "edge-3"], ["bs-1", "bs-2", "bs-3"])
    ahead = hosts.bind("b", server_in_use="edge-1", station_in_use="bs-1")
    again = hosts.bind("b", server_in_use="edge-1", station_in_use=ahead.base_station)
    assert again.server == ahead.server
    assert again.base_station != ahead.base_station


def test_a_passage_spares_the_server_that_was_sent_to_ahead():
    hosts = Binder(["edge-1", "edge-2", "edge-3"], ["bs-1", "bs-2", "bs-3"])
    ahead = hosts.bind("b", server_in_use="edge-1", station_in_use="bs-1")
    asked = {"server_in_use": "edge-1", "station_in_use": "bs-1", "spared": ahead.server}
    assert hosts.bind("x", **asked).server == "edge-3"
    assert hosts.known("b") == ahead
    assert Binder(["edge-1", "edge-2"], ["bs-1"]).bind("x", **asked).server == "edge-2"
