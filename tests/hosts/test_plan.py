import itertools
import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.hosts import plan as planning
from testbed.hosts.plan import (
    CONTROL,
    DATA,
    MAX_LAB_NAME,
    SERVICE,
    control_network,
    device,
    plan_addresses,
    plan_lab,
    plan_routes,
    plan_switch,
)
from testbed.scenario import MAX_HOST_NAME, Scenario

LONGEST_INTERFACE = 15
ROOM = 243
lab_names = st.from_regex(r"[a-zA-Z0-9]{1,10}", fullmatch=True)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scenario(servers=2, stations=2, services=1, names=str):
    """A scenario of this size in which every host is linked to every other."""
    roles = [{"role": "server", "tier": "local"}] * servers
    roles += [{"role": "base-station"}] * stations
    roles += [{"role": "user"}]
    # No lab has a dash in its name, so none is called like a host.
    hosts = {names(f"h-{number}"): role for number, role in enumerate(roles)}
    return Scenario.model_validate({
        "name": "made",
        "map": {"source": "berlin"},
        "hosts": hosts,
        "links": [{"between": ["*", "*"], "delay": "1 ms"}],
        "services": {f"s{number}": {"kind": "simple"} for number in range(services)},
        "users": {
            "u": {"host": list(hosts)[-1], "service": "s0", "trace": {"source": "sumo"}},
        },
    })  # fmt: skip


def renamed(name):
    """A small scenario in which one server has this name."""
    return scenario(names=lambda host: name if host == "h-0" else host)


@unhurried
@given(st.integers(2, 6), st.integers(1, 6), st.integers(1, 5), lab_names)
def test_every_address_is_one_host_s_and_in_the_network_it_belongs_to(
    servers, stations, services, name
):
    plan = plan_lab(scenario(servers, stations, services), name)
    control = [IPv4Address(h.control_address) for h in plan.hosts.values()]
    data = [IPv4Address(h.data_address) for h in plan.hosts.values()]
    service = [IPv4Address(a) for a in plan.service_addresses.values()]
    everything = [*control, *data, *service, plan.control[1], plan.control[254]]
    assert len(set(everything)) == len(everything)
    assert all(address in plan.control for address in control)
    assert all(address in DATA for address in data)
    assert all(address in SERVICE for address in service)


@given(lab_names)
def test_the_three_networks_of_a_lab_have_nothing_in_common(name):
    networks = [control_network(name), DATA, SERVICE]
    assert networks[0].prefixlen == CONTROL.prefixlen
    assert not any(a.overlaps(b) for a, b in itertools.combinations(networks, 2))
    assert networks[0].is_private
    assert IPv4Network("10.77.0.0/16").supernet_of(networks[0])


def test_another_lab_has_a_control_network_of_its_own():
    networks = [control_network(f"lab{number}") for number in range(2000)]
    assert len(set(networks)) > 250  # every one of them, the first and the last included
    assert all(not network.overlaps(CONTROL) for network in networks)
    assert control_network(planning.DEFAULT_LAB) == CONTROL


@unhurried
@given(st.integers(2, 4), st.integers(1, 4))
def test_peers_are_the_other_ends_of_a_host_s_links(servers, stations):
    plan = plan_lab(scenario(servers, stations))
    for name, host in plan.hosts.items():
        assert set(host.peers) == set(plan.hosts) - {name}
        assert len(set(host.peers)) == len(host.peers)
    assert plan.pairs() == sorted(itertools.combinations(sorted(plan.hosts), 2))


@pytest.mark.parametrize("letter", ["x", "9", "W"])
def test_the_longest_names_still_make_interfaces_that_linux_takes(letter):
    host, name = letter * MAX_HOST_NAME, "L" * MAX_LAB_NAME
    plan = plan_lab(renamed(host), name)
    switch = re.findall(r"\bv-\S+|\bbr0\b", " ".join(plan_switch(plan)))
    for interface in (device(host), f"v-{host}", plan.cable, *switch):
        assert 0 < len(interface.encode()) <= LONGEST_INTERFACE


@pytest.mark.parametrize("name", ["lab", "core", "delay-line", "car"])
def test_no_host_s_name_collides_with_something_else_in_its_lab(name):
    """Either the name is refused, or everything that is made of it is different."""
    try:
        plan = plan_lab(renamed(name), "car" if name == "car" else "lab")
    except ScenarioError:
        return
    namespaces = [plan.core, *(plan.netns(host) for host in plan.hosts)]
    assert len(set(namespaces)) == len(namespaces)
    (uplink,) = re.findall(r"link set (\S+) master br0", "\n".join(plan_switch(plan)))
    ports = [uplink, *(f"v-{host}" for host in plan.hosts)]
    assert len(set(ports)) == len(ports)
    assert "delay-line" not in plan.hosts  # the cgroup beside the hosts'


@pytest.mark.parametrize(
    "name", ["", "eleven-long", "elevenlongs", "two words", "a-b", "../up", "a/b", "*", ".", "a_b"]
)
def test_a_lab_s_name_that_cannot_be_part_of_an_interface_s_is_refused(name):
    with pytest.raises(ScenarioError, match="at most 10 letters and digits"):
        plan_lab(scenario(), name)


def test_a_lab_s_name_is_measured_as_the_kernel_measures_it():
    with pytest.raises(ScenarioError, match="letters and digits"):
        plan_lab(scenario(), "ЖЖЖЖЖЖЖЖЖЖ")


@pytest.mark.parametrize("hosts", [ROOM, ROOM + 1])
def test_more_hosts_than_addresses_are_refused(hosts):
    base = scenario()
    spec = base.hosts["h-0"]
    big = base.model_copy(update={"hosts": {f"h{n}": spec for n in range(hosts)}, "links": ()})
    if hosts > ROOM:
        with pytest.raises(ScenarioError, match=f"{hosts} hosts; a lab has room for {ROOM}"):
            plan_lab(big)
        return
    plan = plan_lab(big)
    last = [h.control_address for h in plan.hosts.values()][-1]
    assert IPv4Address(last) < plan.control[254]


def test_more_services_than_addresses_are_refused():
    base = scenario()
    spec = base.services["s0"]
    many = base.model_copy(update={"services": {f"s{n}": spec for n in range(300)}})
    with pytest.raises(ScenarioError, match="services"):
        plan_lab(many)


def test_the_switch_joins_the_machine_s_own_cable():
    plan = plan_lab(scenario(), "mine")
    network = control_network("mine")
    assert plan_switch(plan) == [
        "link set lo up",
        "link add br0 type bridge",
        "link set br0 up",
        f"addr add {network[1]}/24 dev br0",
        "link set v-mine master br0 up",
    ]
    assert (plan.cable, plan.core, plan.netns("h-0")) == ("tb-mine", "tb-mine-core", "tb-mine-h-0")


def test_a_host_has_its_addresses_and_a_way_to_each_neighbour():
    plan = plan_lab(scenario(2, 1))
    this = plan.hosts["h-1"]
    assert (this.control_address, this.data_address) == ("10.77.0.12", "10.78.0.12")
    assert plan_addresses(plan, "h-1") == [
        "link set lo up",
        "addr add 10.78.0.12/32 dev lo",
        "link set eth0 up",
        "addr add 10.77.0.12/24 dev eth0",
    ]
    assert sorted(plan_routes(plan, "h-1")) == [
        "route replace 10.78.0.11/32 dev wan-h-0 src 10.78.0.12",
        "route replace 10.78.0.13/32 dev wan-h-2 src 10.78.0.12",
        "route replace 10.78.0.14/32 dev wan-h-3 src 10.78.0.12",
    ]


def test_only_servers_have_a_tier():
    plan = plan_lab(scenario())
    assert [host.tier for host in plan.hosts.values()] == ["local", "local", "", "", ""]


def test_the_same_scenario_is_planned_the_same_twice():
    assert plan_lab(scenario(3, 3)) == plan_lab(scenario(3, 3))
