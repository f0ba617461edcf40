from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import RemoteCommandError
from testbed.experiment.steering import Steering
from testbed.hosts.plan import SERVICE

USER, SERVICE_ADDRESS = "10.78.0.20", "10.88.0.1"
SERVERS = ("edge-1", "edge-2")


class Lab:
    """Every host's routes, as a kernel would keep them, and the order in which they were set."""

    def __init__(self):
        hosts = {"car": SimpleNamespace(data_address=USER)}
        self.plan = SimpleNamespace(hosts=hosts)
        self.routes = {}
        self.order = []
        self.failing = set()

    def __getitem__(self, host):
        def start(call, *, destination, device, source=None):
            assert call == "route"
            future = Future()
            if host in self.failing:
                future.set_exception(RemoteCommandError(f"{host}: no", host=host))
                return future
            self.routes[host, destination] = device
            self.order.append((host, destination, device, source))
            future.set_result(None)
            return future

        return SimpleNamespace(start=start, call=lambda *a, **k: start(*a, **k).result(1))

    def way_there(self, start="car"):
        """The hosts that a packet of the user to the service passes."""
        station = self.routes[start, str(SERVICE)].removeprefix("wan-")
        return [station, self.routes[station, SERVICE_ADDRESS].removeprefix("wan-")]

    def way_back(self, server):
        """The base station over which a server answers the user."""
        return self.routes[server, USER].removeprefix("wan-")


def steering(lab):
    return Steering(lab, "car", SERVICE_ADDRESS, SERVERS, server="edge-1")


def test_a_connection_leads_from_the_user_to_the_service_and_back():
    lab = Lab()
    way = steering(lab)
    way.connect("bs-1")
    assert way.base_station == "bs-1"
    assert lab.way_there() == ["bs-1", "edge-1"]
    assert {lab.way_back(server) for server in SERVERS} == {"bs-1"}


def test_the_new_way_is_there_before_the_user_takes_it():
    lab = Lab()
    steering(lab).connect("bs-2")
    assert lab.order[-1] == ("car", str(SERVICE), "wan-bs-2", USER)
    assert [host for host, *_ in lab.order[:-1]] == ["bs-2", *SERVERS]


def test_a_way_that_could_not_be_made_is_not_taken():
    lab = Lab()
    way = steering(lab)
    way.connect("bs-1")
    lab.failing = {"edge-2"}
    with pytest.raises(RemoteCommandError):
        way.connect("bs-2")
    assert way.base_station == "bs-1"
    assert lab.routes["car", str(SERVICE)] == "wan-bs-1"


def test_leading_to_another_edge_changes_the_base_station_only():
    lab = Lab()
    way = steering(lab)
    way.connect("bs-1")
    lab.order.clear()
    assert way.lead_to("edge-2").result(0) is None
    assert lab.order == [("bs-1", SERVICE_ADDRESS, "wan-edge-2", None)]
    assert way.server == "edge-2"


def test_leading_on_does_not_wait_for_the_base_station():
    lab = Lab()
    way = steering(lab)
    way.connect("bs-1")
    lab.failing = {"bs-1"}
    future = way.lead_to("edge-2")
    with pytest.raises(RemoteCommandError):
        future.result(0)
    assert way.server == "edge-2"


moves = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(["bs-1", "bs-2", "bs-3"])),
    st.tuples(st.just("lead_to"), st.sampled_from(SERVERS)),
)


@given(st.lists(moves, max_size=10))
def test_whatever_moved_last_packets_go_to_where_user_and_service_are_now(steps):
    lab = Lab()
    way = steering(lab)
    way.connect("bs-1")
    for what, where in steps:
        getattr(way, what)(where)
        assert lab.way_there() == [way.base_station, way.server]
        assert lab.way_back(way.server) == way.base_station
