import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.handoff.durations import (
    ContainerSize,
    HostFactors,
    Probe,
    checkpoint_s,
    estimate_durations,
    learn_factors,
    restore_s,
    sending_s,
)
from testbed.records import PhaseRecord

MB = 1e6
OPENFACE = ContainerSize(1860 * MB, 196.8 * MB, 7.94 * MB)
"""Ngo, table I."""
DEFAULT = HostFactors(checkpoint=1.0, restore=2.0)


def phase(migration, name, host, took_s, *, frozen=True, start_s=10.0):
    return PhaseRecord(migration, name, host, start_s, start_s + took_s, 0, frozen)


def test_a_checkpoint_takes_psi_times_size_by_speed():
    # psi S_D / C_s = 2e-6 * 1860e6 / 1000 = 3720 / 1000
    assert checkpoint_s(2e-6, 1860 * MB, 1000.0) == pytest.approx(3.72)


def test_a_restore_takes_rho_times_all_that_is_read_by_speed():
    # S_D + S_lambda + S_delta = 1860 + 196.8 + 7.94 = 2064.74 MB; 1e-6 * 2064.74e6 / 500
    assert OPENFACE.restored_bytes == pytest.approx(2064.74 * MB)
    assert restore_s(1e-6, OPENFACE.restored_bytes, 500.0) == pytest.approx(4.12948)


def test_sending_takes_bits_by_rate_and_the_delay():
    # 8 * 196.8e6 / 100e6 = 15.744 s, and 50 ms on the way
    assert sending_s(196.8 * MB, 100e6) == pytest.approx(15.744)
    assert sending_s(196.8 * MB, 100e6, 0.050) == pytest.approx(15.794)


def test_nothing_to_send_takes_no_time_even_without_a_link():
    assert sending_s(0.0, 0.0, 0.050) == 0.0
    assert sending_s(1.0, 0.0) == float("inf")


def test_equation_5_for_openface_on_the_paper_s_link():
    found = estimate_durations(
        OPENFACE,
        source=HostFactors(checkpoint=2e-7, restore=9.0),
        source_speed=1000.0,
        target=HostFactors(checkpoint=9.0, restore=1e-7),
        target_speed=500.0,
        rate_bps=100e6,
        delay_s=0.050,
        handover_s=0.5,
    )
    # A checkpoint takes 2e-7 * 1860e6 / 1000 = 0.372 s, sending ahead 15.744 + 0.050 s
    assert found.pre_migration_s == pytest.approx(16.166)
    # The delta takes 8 * 7.94e6 / 100e6 + 0.050 = 0.6852 s, the restore of 2064.74 MB
    # 1e-7 * 2064.74e6 / 500 = 0.412948 s: with the checkpoint 1.470148 s together
    assert found.migration_s == pytest.approx(1.470148)
    assert found.downtime_s == pytest.approx(1.470148)


def test_downtime_is_the_longer_of_migration_and_handover():
    size = ContainerSize(0.0, 0.0, 1e6)
    still = HostFactors(0.0, 0.0)
    found = estimate_durations(
        size, source=still, source_speed=1.0, target=still, target_speed=1.0,
        rate_bps=100e6, handover_s=0.5,
    )  # fmt: skip
    # 8e6 / 100e6 = 0.08 s of sending, less than half a second of handover
    assert found.migration_s == pytest.approx(0.08)
    assert found.downtime_s == 0.5


def test_a_probe_s_sizes_are_those_of_the_move():
    probe = Probe(first_bytes=196.8 * MB, differing_bytes=7.94 * MB)
    assert probe.size(1860 * MB) == OPENFACE


def test_a_probe_s_delta_grows_with_time_up_to_the_state():
    probe = Probe(100 * MB, 5 * MB, first_at_s=30.0, second_at_s=32.0)
    # 5 MB in 2 s are 2.5 MB/s: 20 MB after 8 s; after 60 s it would be 150 MB of 100
    assert probe.size_after(0.0, 8.0).delta_bytes == pytest.approx(20 * MB)
    assert probe.size_after(0.0, 60.0).delta_bytes == 100 * MB


def test_a_probe_without_times_cannot_grow():
    with pytest.raises(ValueError, match="0 s apart"):
        Probe(100 * MB, 5 * MB).size_after(0.0, 8.0)


def test_factors_are_the_median_of_a_host_s_own_migrations():
    size = ContainerSize(100.0, 40.0, 10.0)
    phases = [
        # m1 leaves a: 0.1 + 0.3 = 0.4 s; psi = 0.4 * 50 / 100 = 0.2
        phase("m1", "freeze", "a", 0.1),
        phase("m1", "dump", "a", 0.3),
        phase("m1", "images", "a", 7.0),
        phase("m1", "ahead", "a", 9.0, frozen=False),
        # and comes to b: 0.6 s; rho = 0.6 * 25 / 150 = 0.1
        phase("m1", "restore", "b", 0.6),
        phase("m1", "fill", "b", 3.0, frozen=False),
        # m2: psi = 0.8 * 50 / 100 = 0.4; m3: an outlier, 1.0 * 50 / 100 = 0.5 would be; 20 s: 10.0
        phase("m2", "dump", "a", 0.8),
        phase("m3", "dump", "a", 20.0),
        phase("unknown", "dump", "a", 99.0),
    ]
    found = learn_factors(
        phases, dict.fromkeys(("m1", "m2", "m3"), size), {"a": 50.0, "b": 25.0}, otherwise=DEFAULT
    )
    assert found["a"].checkpoint == pytest.approx(0.4)  # of 0.2, 0.4 and 10
    assert found["a"].restore == DEFAULT.restore
    assert found["b"] == HostFactors(DEFAULT.checkpoint, pytest.approx(0.1))


def test_only_the_latest_migrations_count():
    size = ContainerSize(1.0, 0.0, 0.0)
    phases = [phase(f"m{n}", "dump", "a", float(n)) for n in range(1, 6)]
    sizes = {f"m{n}": size for n in range(1, 6)}
    found = learn_factors(phases, sizes, {"a": 1.0}, otherwise=DEFAULT, latest=3)
    assert found["a"].checkpoint == pytest.approx(4.0)  # of 3, 4, 5


@given(
    psi=st.floats(1e-9, 1e-3),
    speed=st.floats(1.0, 1e4),
    sizes=st.lists(st.floats(1e3, 1e9), min_size=1, max_size=5),
)
def test_what_was_learnt_gives_back_the_durations_it_was_learnt_from(psi, speed, sizes):
    phases = [
        phase(f"m{n}", "dump", "a", float(checkpoint_s(psi, size, speed)), start_s=0.0)
        for n, size in enumerate(sizes)
    ]
    moved = {f"m{n}": ContainerSize(size, 0.0, 0.0) for n, size in enumerate(sizes)}
    found = learn_factors(phases, moved, {"a": speed}, otherwise=DEFAULT)
    assert found["a"].checkpoint == pytest.approx(psi)
