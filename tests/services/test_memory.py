import json

import pytest

from testbed.errors import ServiceError
from testbed.services.memory import FILE, Changes, MemoryBehaviour
from testbed.services.service import find_service, service_names

OURS = {"simple", "face-detection", "openface", "yolo", "xonotic", "ram"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_service_of_ours_says_what_it_needs_and_was_measured(name):
    service = find_service(name)
    assert service.needs is not None
    memory = service.memory
    assert "benchmarks/services.py" in memory.how
    assert 0 < memory.private_mb < memory.resident_mb * 1.05
    assert memory.resident_mb <= service.needs.memory_mb
    assert 0 < memory.compressed_share <= 1.01
    for changes in (memory.idle, memory.load):
        assert list(changes.interval_s) == sorted(changes.interval_s)
        assert all(0 <= changed <= memory.private_mb * 1.1 for changed in changes.changed_mb)


def test_all_six_are_ours():
    assert set(service_names()) >= OURS


def test_the_ram_service_changes_as_fast_as_it_was_told():
    memory = find_service("ram").memory
    assert memory.idle.rate_mb_per_s == pytest.approx(5.0, rel=0.3)
    assert memory.compressed_share > 0.9


def test_changes_are_interpolated_from_nothing_at_once():
    changes = Changes((1.0, 3.0), (2.0, 3.0))
    assert [changes.changed_within(s) for s in (0.0, 0.5, 1.0, 2.0, 9.0)] == [0, 1, 2, 2.5, 3]
    assert changes.rate_mb_per_s == 2.0


@pytest.mark.parametrize("content", [None, "", "[]", '{"idle": 5}', json.dumps({"idle": {}})])
def test_a_file_that_is_none_says_how_to_measure(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(ServiceError, match=r"benchmarks/services\.py"):
        MemoryBehaviour.read(tmp_path)
