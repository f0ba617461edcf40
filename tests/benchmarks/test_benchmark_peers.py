import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import lazy_peer
import peer_bundle
from peer_steps import lengths

from testbed.edge.spec import Spec

SPEC = Spec(
    name="counter",
    address="10.88.0.1",
    number=1,
    layers=("a", "b"),
    command=("python3", "/app/server.py"),
    environment=("PATH=/bin", "A=b c"),
    directory="/app",
    user="1000",
)


def test_a_bundle_holds_the_service_itself_and_nothing_of_the_testbeds():
    content = peer_bundle.configuration(SPEC)
    assert content["process"]["args"] == ["python3", "/app/server.py"]
    assert content["process"]["cwd"] == "/app"
    assert content["process"]["env"] == ["PATH=/bin", "A=b c"]
    assert content["process"]["user"] == {"uid": 1000, "gid": 0}
    assert not [m for m in content["mounts"] if "testbed" in m["destination"]]
    assert {"destination": "/proc", "type": "proc", "source": "proc"} in content["mounts"]


def test_steps_are_told_up_to_the_route_and_no_further():
    stamps = {"began": 1.0, "checkpoint": 1.5, "restore": 2.5, "route": 2.6, "fill": 9.0}
    assert lengths(stamps) == pytest.approx({"checkpoint": 0.5, "restore": 1.0, "route": 0.1})


def test_the_pipes_limit_is_put_back_whatever_happens(tmp_path, monkeypatch):
    limit = tmp_path / "pipe-max-size"
    limit.write_text("1048576\n")
    monkeypatch.setattr(lazy_peer, "PIPES", limit)

    def fail():
        assert int(limit.read_text()) == lazy_peer.PIPE_BYTES
        raise KeyError

    with pytest.raises(KeyError), lazy_peer.large_pipes():
        fail()
    assert limit.read_text() == "1048576\n"
