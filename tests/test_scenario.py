import copy
import hashlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.scenario import MAX_HOST_NAME, Link, Scenario, read_scenario

SCENARIOS = Path(__file__).parents[1] / "data" / "scenarios"
GOOD = yaml.safe_load("""
name: small
duration: 90 s
map: {source: berlin, box: {west: 13.3, south: 52.4, east: 13.5, north: 52.6}}
cells: {separation: 500 m}
hosts:
  edge-1: {role: server, tier: local}
  edge-2: {role: server, tier: local}
  cloud: {role: server, tier: cloud}
  bs-1: {role: base-station}
  bs-2: {role: base-station}
  car: {role: user}
links:
  - {between: [car, "bs-*"], rate: 100 Mbit/s, delay: 5 ms}
  - {between: ["bs-*", "edge-*"], rate: 100 Mbit/s, delay: 15 ms, loss: 1 %}
  - {between: [edge-1, edge-2], rate: 1 Gbit/s, delay: 15 ms}
sites: {cell-1: edge-1}
services:
  counter: {kind: simple, options: {memory_mb: 16}}
users:
  alice: {host: car, service: counter, interval: 10 ms, trace: {source: sumo}}
  """)


def changed(where, value):
    """`GOOD` with another value at the dotted key ``where``; ``None`` takes the key away."""
    content = copy.deepcopy(GOOD)
    *path, last = where.split(".")
    part = content
    for key in path:
        part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
    if value is None:
        del part[last]
    elif isinstance(part, list):
        part[int(last)] = value
    else:
        part[last] = value
    return content


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.yml"


def refusal(file, content):
    """What `read_scenario` says against this content; every line names the file."""
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as refused:
        read_scenario(file)
    said = str(refused.value)
    assert said.startswith(f"{file}: ")
    return said


def test_a_good_scenario_is_read_with_its_place_and_its_hash(file):
    text = yaml.safe_dump(GOOD)
    file.write_text(text, encoding="utf-8")
    read = read_scenario(file)
    assert read.path == file.resolve()
    assert read.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (read.duration, read.cells.separation, read.links[1].loss) == (90.0, 500.0, 0.01)
    assert read.users["alice"].interval == pytest.approx(0.01)
    assert read.users["alice"].trace.source == "sumo"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yml")), ids=lambda path: path.stem)
def test_the_scenarios_that_come_along_are_good(path):
    scenario = read_scenario(path)
    assert scenario.name
    assert scenario.users


@pytest.mark.parametrize(
    ("where", "value", "right"),
    [
        ("mapp", {"source": "berlin"}, "map"),
        ("prediction.horizn", "30 s", "horizon"),
        ("cells.seperation", "500 m", "separation"),
        ("map.box.weast", 13.0, "west"),
        ("hosts.edge-1.teir", "local", "tier"),
        ("links.0.dealy", "5 ms", "delay"),
        ("services.counter.optionz", {}, "options"),
        ("users.alice.intervall", "10 ms", "interval"),
        ("users.alice.trace.minimum_distanc", "1 km", "minimum_distance"),
        ("users.alice.trace", {"source": "geolife", "user": "010", "fil": "x"}, "file"),
        ("handoff.certanty", "50 %", "certainty"),
        ("migration.round", 3, "rounds"),
        ("radio.hysterisis", 3, "hysteresis"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_right_one(file, where, value, right):
    said = refusal(file, changed(where, value))
    wrong = "users.alice.trace.fil" if "geolife" in str(value) else where
    assert f"{file}: {wrong}: unknown key; did you mean '{right}'?" in said


def test_an_unknown_key_that_is_near_to_none_is_answered_with_all(file):
    said = refusal(file, changed("cells.qqqqqq", 1))
    assert "cells.qqqqqq: unknown key; there are: layout, separation" in said


@pytest.mark.parametrize("user", ["sumo", "geolife"])
def test_a_user_may_be_called_like_a_source_of_traces(file, user):
    content = changed("users", {user: {**GOOD["users"]["alice"], "intervall": "10 ms"}})
    said = refusal(file, content)
    assert f"users.{user}.intervall: unknown key; did you mean 'interval'?" in said


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("duration", "90 m", ("'m' is not a unit of duration", "ms, s, min, h")),
        ("links.0.rate", "100 MB", ("'MB' is not a unit of rate", "Mbit/s")),
        ("cells.separation", "500 s", ("'s' is not a unit of length", "m, km")),
        ("links.1.loss", "1 ms", ("'ms' is not a unit of share", "%")),
        ("duration", 90, ("90 has no unit", "a duration needs one of: us, µs, ms, s, min, h")),
        ("users.alice.interval", "10", ("'10' has no unit", "ms")),
        ("users.alice.interval", 0.01, ("has no unit", "ms")),
        ("links.0.rate", 1e8, ("has no unit", "Mbit/s")),
        ("duration", "soon", ("'soon' is not a duration", "write a number and one of")),
        ("users.alice.trace.minimum_distance", "1 mile", ("'mile' is not a unit of length", "km")),
    ],
)
def test_a_quantity_without_its_unit_is_refused_with_the_right_ones(file, where, value, words):
    said = refusal(file, changed(where, value))
    assert f"{file}: {where}: " in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("links.0.between", ["car", "bs-9*"], "links.0.between: there is no host 'bs-9*'"),
        ("links.2.between", ["edge-1", "edg-2"],
         "links.2.between: there is no host 'edg-2'; did you mean 'edge-2'?"),
        ("sites", {"a": "edge-1", "b": "edge-1"},
         "sites.b: host 'edge-1' already serves site 'a'"),
        ("sites", {"a": "edge1"}, "sites.a: there is no host 'edge1'; did you mean 'edge-1'?"),
        ("sites", {"a": "bs-1"}, "sites.a: 'bs-1' is a base-station; a site is served by a server"),
        ("users.alice.service", "countr",
         "users.alice.service: there is no service 'countr'; did you mean 'counter'?"),
        ("users.alice.host", "bs-1",
         "users.alice.host: 'bs-1' is not a host with role user; there are: car"),
        ("users.alice.host", "cra",
         "users.alice.host: 'cra' is not a host with role user; did you mean 'car'?"),
        ("services.counter.tier", "cloud",
         "services.counter.tier: a service of tier cloud can only move where there are 2 such"),
        ("services.counter.tier", "regional", "there are 2 such servers; add one to hosts"),
        ("hosts.edge-1", {"role": "server"}, "hosts.edge-1: a server needs a tier"),
        ("hosts.car", {"role": "user", "tier": "local"}, "hosts.car: a server needs a tier"),
        ("hosts.edge-1.tier", "far", "hosts.edge-1.tier: "),
        ("hosts.much-too-long", {"role": "user"},
         f"hosts.much-too-long: a host's name has at most {MAX_HOST_NAME} letters"),
        ("hosts.a_b", {"role": "user"}, "hosts.a_b: a host's name has at most"),
        ("users.bob", {"host": "car", "service": "counter", "trace": {"source": "sumo"}},
         "users.bob.service: 'counter' follows 'alice' already; give each user a service"),
        ("users.alice.host", None, "users.alice.host: is missing; add it"),
        ("users.alice.trace", {"source": "geolife"}, "users.alice.trace.user: is missing; add it"),
        ("users.alice.trace.source", "tram", "'sumo', 'geolife'"),
        ("map", None, "map: is missing; add it"),
        ("name", "Mine!", "name: "),
        ("migration.technique", "magic", "'pre-copy', 'post-copy' or 'hybrid'"),
        ("links.1.loss", "150 %", "links.1.loss: "),
        ("cells.separation", "0 m", "cells.separation: "),
        ("planning.tiers", ["local", "regional"],
         "planning.tiers: regional needs 2 such servers; add one to hosts, or leave the tier out"),
        ("planning.tiers", ["cloud"],
         "services.counter.tier: local is not among planning.tiers; add it there"),
        ("planning.tiers", ["local", "cloud"],
         "links: there is none between edge-1 and cloud, between which services move to tier"),
        ("planning.short_stay", "10", "a duration needs one of"),
        ("planning.planer", "pm", "did you mean 'planner'"),
        ("services.counter.max_delay", "20", "a duration needs one of"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_key_and_remedy(file, where, value, said):
    assert said in refusal(file, changed(where, value))


def test_two_users_cannot_share_a_host_for_it_has_one_radio_link(file):
    content = changed("services.second", {"kind": "simple"})
    content["users"]["bob"] = {**content["users"]["alice"], "service": "second"}
    said = refusal(file, content)
    assert "users.bob.host: 'car'" in said
    assert "'alice'" in said


@pytest.mark.parametrize("number", range(3))
def test_a_path_that_a_moving_service_needs_must_be_linked(file, number):
    content = copy.deepcopy(GOOD)
    lost = content["links"].pop(number)["between"]
    said = refusal(file, content)
    one, other = (end.replace("*", "1") for end in lost)
    assert f"links: there is none between {one} and {other}, " in said
    assert "; add one" in said


@pytest.mark.parametrize("role", ["server", "base-station", "user"])
def test_a_role_that_nobody_plays_is_missed(file, role):
    hosts = {name: spec for name, spec in GOOD["hosts"].items() if spec["role"] != role}
    assert f"hosts: there is no {role}; add one" in refusal(file, changed("hosts", hosts))


def test_all_that_is_wrong_is_said_at_once(file):
    content = changed("users.alice.intervall", "10 ms")
    content["duration"] = "90 m"
    lines = refusal(file, content).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{file}: ") for line in lines)


@pytest.mark.parametrize("name", ["éééééééé", "ЖЖЖЖЖЖЖ"])
def test_a_name_is_measured_as_the_kernel_measures_it(file, name):
    said = refusal(file, changed(f"hosts.{name}", {"role": "user"}))
    assert f"hosts.{name}: a host's name has" in said


@pytest.mark.parametrize("text", ["", "- a\n- list\n", "only words", "3"])
def test_what_is_no_mapping_is_refused_with_the_keys_there_are(file, text):
    said = refusal(file, text)
    assert "a scenario is a mapping with the keys name, description" in said
    assert "sha256" not in said


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\tname: x", "a: {b: !!nothing c}"])
def test_what_is_not_yaml_is_refused_with_the_place(file, text):
    said = refusal(file, text)
    assert "not valid YAML" in said
    assert "line 1" in said


def test_what_is_not_text_is_refused(file):
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ScenarioError, match=r"mine\.yml: "):
        read_scenario(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"none\.yml: cannot be read .*Check the name"):
        read_scenario(tmp_path / "none.yml")


def test_a_folder_is_no_scenario(tmp_path):
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_scenario(tmp_path)


def test_a_later_link_overrides_an_earlier_one_in_both_directions():
    content = copy.deepcopy(GOOD)
    content["links"] += [{"between": ["edge-1", "bs-2"], "delay": "1 ms"}]
    links = {(x.source, x.target): x for x in Scenario.model_validate(content).directed_links()}
    for ends in (("bs-2", "edge-1"), ("edge-1", "bs-2")):
        assert links[ends] == Link(source=ends[0], target=ends[1], delay_s=0.001)
    assert links["bs-1", "edge-1"].rate_bps == 100e6
    assert links["bs-2", "edge-2"].loss == 0.01


def test_a_pattern_stands_for_every_host_it_fits_and_links_none_to_itself():
    content = copy.deepcopy(GOOD)
    content["links"] = [{"between": ["*", "*"], "delay": "1 ms"}]
    links = Scenario.model_validate(content).directed_links()
    hosts = set(GOOD["hosts"])
    assert {(x.source, x.target) for x in links} == {(a, b) for a in hosts for b in hosts if a != b}
    assert len(links) == len(hosts) * (len(hosts) - 1)


def test_hosts_are_found_by_role_and_tier_in_the_order_of_the_file():
    scenario = Scenario.model_validate(GOOD)
    assert scenario.hosts_with("server") == ["edge-1", "edge-2", "cloud"]
    assert scenario.hosts_with("server", "local") == ["edge-1", "edge-2"]
    assert scenario.hosts_with("user") == ["car"]


ends = st.sampled_from([*GOOD["hosts"], "bs-*", "edge-*", "*"])
entries = st.lists(st.tuples(ends, ends, st.integers(1, 99)), max_size=6)


@settings(deadline=None)
@given(entries)
def test_every_direction_is_shaped_as_the_last_entry_that_fits_it_says(more):
    content = copy.deepcopy(GOOD)
    content["links"] += [{"between": [a, b], "delay": f"{n} s"} for a, b, n in more]
    links = Scenario.model_validate(content).directed_links()
    assert len({(x.source, x.target) for x in links}) == len(links)

    def fits(host, pattern):
        return host.startswith(pattern[:-1]) if pattern.endswith("*") else host == pattern

    for link in links:
        said = [
            n
            for a, b, n in more
            if (fits(link.source, a) and fits(link.target, b))
            or (fits(link.source, b) and fits(link.target, a))
        ]
        assert link.source != link.target
        if said:
            assert link.delay_s == said[-1]
        else:
            assert link.delay_s < 1


def test_a_scenario_that_was_read_can_be_dumped_and_read_again(file):
    file.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    read = read_scenario(file)
    again = Scenario.model_validate(read.model_dump())
    assert again.model_dump() == read.model_dump()
    assert again.directed_links() == read.directed_links()


POINTS = {"start": {"lat": 52.43, "lon": 13.53}, "end": {"lat": 52.43, "lon": 13.54}}


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ({"source": "round-trip", **POINTS, "sped": "1 m/s"}, "did you mean 'speed'?"),
        ({"source": "round-trip", **POINTS, "speed": 1}, "a speed needs one of: m/s, km/h"),
        ({"source": "round-trip", "start": POINTS["start"]}, "users.alice.trace.end: is missing"),
        ({"source": "round-trip", **POINTS, "step": "0 s"}, "users.alice.trace.step"),
        ({"source": "random-waypoint", "speed": ["2 m/s", "1 m/s"]}, "name the least first"),
        ({"source": "random-waypoint", "speed": ["0 m/s", "1 m/s"]}, "users.alice.trace.speed.0"),
        ({"source": "random-walk", "each": "20 %"}, "six of them are at most 1"),
        ({"source": "random-walk", "right": "20 %"}, "right has no meaning on a hexagonal lattice"),
        (
            {"source": "random-walk", "lattice": "line", "right": "60 %", "left": "50 %"},
            "together at most 1",
        ),
    ],
)
def test_a_made_trace_that_makes_no_sense_is_refused(file, trace, said):
    assert said in refusal(file, changed("users.alice.trace", trace))


def test_a_made_trace_is_read_in_its_units(file):
    asked = {"source": "round-trip", **POINTS, "speed": "3.6 km/h", "duration": "10 min"}
    file.write_text(yaml.safe_dump(changed("users.alice.trace", asked)), encoding="utf-8")
    trace = read_scenario(file).users["alice"].trace
    assert (trace.speed, trace.duration, trace.along) == (pytest.approx(1.0), 600.0, "roads")


def test_rates_are_those_of_a_standard_that_has_them(file):
    said = refusal(file, changed("radio.wifi", {"standard": "802.11n", "width": 80}))
    assert "radio.wifi: 802.11n has no channels of 80 MHz; use 20 or 40" in said
