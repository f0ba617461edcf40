import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.handoff.durations import Durations
from testbed.handoff.timing import (
    MARGIN,
    VARIANTS,
    Coordination,
    coordinated,
    downtime_s,
    early,
    find_variant,
    late,
    trigger_records,
    uncoordinated,
)
from testbed.planning.planner import Plan
from testbed.records import NAN, HandoverRecord, MigrationRecord

LONG = Durations(pre_migration_s=10.0, migration_s=2.0, handover_s=0.5)
SHORT = Durations(pre_migration_s=10.0, migration_s=0.1, handover_s=0.5)
HERE = Plan("a", "bs-a", "", "here")
THERE = Plan("b", "bs-b", "", "31 ms instead of 84 ms")

seconds = st.floats(0.0, 100.0)
durations = st.builds(
    Durations, pre_migration_s=seconds, migration_s=st.floats(0.0, 20.0), handover_s=seconds
)


def migration(**known):
    names = ("service", "user", "source", "target", "source_site", "target_site")
    nothing = dict.fromkeys(names, "")
    texts = {"migration": "m01", "technique": "delta", "outcome": "moved", "reason": ""}
    times = dict.fromkeys(
        ("requested_s", "prepared_s", "frozen_s", "answered_s", "ended_s", "freeze_s",
         "event_window_s", "client_gap_s", "client_gap_floor_s"), NAN,
    )  # fmt: skip
    counts = dict.fromkeys(("rounds", "bytes_ahead", "bytes_frozen"), 0)
    return MigrationRecord(**(nothing | texts | times | counts | known))


def test_a_short_migration_lies_in_the_middle_of_the_handover():
    found = coordinated(SHORT, Coordination(now_s=0.0, due_s=50.0))
    # With the margin: 11 s ahead, 0.11 s of migration; (0.5 - 0.11) / 2 = 0.195 s after the
    # handover's start, and 50.195 - 11 = 39.195
    assert found.hand_over_at_s == 50.0
    assert found.migrate_at_s == pytest.approx(50.195)
    assert found.pre_migrate_at_s == pytest.approx(39.195)
    assert found.put_off_s == 0.0
    assert found.downtime_s == pytest.approx(0.5)  # max(0.1, 0.5)


def test_a_handover_lies_in_the_middle_of_a_longer_migration():
    found = coordinated(LONG, Coordination(now_s=0.0, due_s=50.0))
    # (0.5 - 2.2) / 2 = -0.85: the migration begins before the handover
    assert found.hand_over_at_s == 50.0
    assert found.migrate_at_s == pytest.approx(49.15)
    assert found.pre_migrate_at_s == pytest.approx(38.15)
    assert found.downtime_s == pytest.approx(2.0)  # max(2.0, 0.5)


@pytest.mark.parametrize(
    ("alignment", "begins_s", "without_s"),
    [
        (0.0, 50.0, 2.0),  # both begin together
        (0.5, 49.15, 2.0),
        (1.0, 48.3, 2.2),  # 50.5 - 2.2: both end together, if the migration needs its margin
    ],
)
def test_alignment_says_where_the_shorter_lies(alignment, begins_s, without_s):
    found = coordinated(LONG, Coordination(0.0, 50.0, alignment=alignment))
    assert found.migrate_at_s == pytest.approx(begins_s)
    assert found.downtime_s == pytest.approx(without_s)


def test_a_handover_that_comes_too_soon_is_put_off():
    found = coordinated(SHORT, Coordination(now_s=45.0, due_s=50.0))
    # Ready at 45 + 11 = 56, which is 0.195 s after the handover's start
    assert found.pre_migrate_at_s == pytest.approx(45.0)
    assert found.migrate_at_s == pytest.approx(56.0)
    assert found.hand_over_at_s == pytest.approx(55.805)
    assert found.put_off_s == pytest.approx(5.805)
    assert found.downtime_s == pytest.approx(0.5)


def test_a_handover_is_not_put_off_beyond_the_loss_of_the_old_base_station():
    found = coordinated(SHORT, Coordination(now_s=45.0, due_s=50.0, lost_s=52.0))
    assert found.hand_over_at_s == 52.0
    assert found.migrate_at_s == pytest.approx(56.0)
    assert found.put_off_s == pytest.approx(2.0)
    assert found.downtime_s == pytest.approx(0.6)  # 0.5 and 0.1, apart


def test_early_hands_over_before_the_migration():
    found = early(LONG, Coordination(0.0, 50.0))
    # Migration from 50.5 on, 11 s of sending ahead before it
    assert (found.hand_over_at_s, found.migrate_at_s) == (50.0, 50.5)
    assert found.pre_migrate_at_s == pytest.approx(39.5)
    assert found.downtime_s == pytest.approx(2.5)


def test_late_hands_over_after_the_migration():
    found = late(LONG, Coordination(0.0, 50.0))
    # 2.2 s before the handover, and 11 s before that
    assert found.hand_over_at_s == 50.0
    assert found.migrate_at_s == pytest.approx(47.8)
    assert found.pre_migrate_at_s == pytest.approx(36.8)
    assert found.downtime_s == pytest.approx(2.5)


def test_uncoordinated_begins_with_the_handover():
    found = uncoordinated(LONG, Coordination(0.0, 50.0))
    assert (found.hand_over_at_s, found.pre_migrate_at_s) == (50.0, 50.0)
    assert found.migrate_at_s == 60.0
    assert found.downtime_s == pytest.approx(2.5)
    assert found.ended_s == 62.0


def test_without_a_migration_only_the_handover_counts():
    found = coordinated(Durations(0.0, 0.0, 0.5), Coordination(0.0, 50.0))
    assert found.hand_over_at_s == 50.0
    assert found.downtime_s == 0.5


@pytest.mark.parametrize(
    ("migrating", "handing_over", "covered_s"),
    [
        ((0.0, 2.0), (0.5, 1.0), 2.0),  # within
        ((0.0, 2.0), (1.5, 2.5), 2.5),  # overlapping
        ((0.0, 2.0), (3.0, 3.5), 2.5),  # apart
        ((3.0, 3.5), (0.0, 2.0), 2.5),  # the other way round
        ((1.0, 1.0), (0.0, 2.0), 2.0),  # no migration
    ],
)
def test_downtime_is_what_both_cover_together(migrating, handing_over, covered_s):
    assert downtime_s(migrating, handing_over) == pytest.approx(covered_s)


@given(durations=durations, now_s=seconds, due_s=seconds)
def test_coordinated_never_costs_more_than_the_longer_one_beyond_the_margin(
    durations, now_s, due_s
):
    found = coordinated(durations, Coordination(now_s, due_s))
    assert found.downtime_s <= durations.downtime_s * (1 + MARGIN / 2) + 1e-6
    exact = coordinated(durations, Coordination(now_s, due_s, margin=0.0))
    assert exact.downtime_s == pytest.approx(durations.downtime_s)


coordinations = st.builds(
    lambda now_s, due_s, patience_s, alignment: Coordination(
        now_s, due_s, due_s + patience_s, alignment=alignment
    ),
    seconds, seconds, st.floats(0.0, 50.0), st.floats(0.0, 1.0),
)  # fmt: skip


@given(durations=durations, when=coordinations, variant=st.sampled_from(list(VARIANTS)))
def test_triggers_are_possible_whatever_the_variant(durations, when, variant):
    found = VARIANTS[variant](durations, when)
    early_enough = found.migrate_at_s - found.pre_migrate_at_s
    assert found.pre_migrate_at_s >= when.now_s - 1e-6
    assert early_enough >= durations.pre_migration_s - 1e-6
    assert when.first_s <= found.hand_over_at_s <= when.last_s
    assert found.put_off_s == pytest.approx(found.hand_over_at_s - when.first_s)
    least, most = durations.downtime_s, durations.migration_s + durations.handover_s
    assert least - 1e-6 <= found.downtime_s <= most + 1e-6


@given(durations=durations, due_s=seconds, off=st.floats(1 - MARGIN, 1 + MARGIN))
def test_a_migration_within_the_margin_costs_at_most_that_margin(durations, due_s, off):
    planned = coordinated(durations, Coordination(0.0, due_s))
    took_s = durations.migration_s * off
    begun_s, handed_s = planned.migrate_at_s, planned.hand_over_at_s
    covered_s = downtime_s((begun_s, begun_s + took_s), (handed_s, handed_s + durations.handover_s))
    assert covered_s <= max(took_s, durations.handover_s) + MARGIN * durations.migration_s + 1e-6


@given(durations=durations, due_s=st.floats(200.0, 300.0))
def test_no_other_variant_has_less_downtime_once_there_is_time_enough(durations, due_s):
    when = Coordination(0.0, due_s, margin=0.0)
    best = coordinated(durations, when).downtime_s
    for variant in VARIANTS.values():
        assert variant(durations, when).downtime_s >= best - 1e-6


def test_each_trigger_that_passed_brings_its_part_of_the_plan():
    timing = coordinated(SHORT, Coordination(0.0, 50.0))
    stages = [(39.0, "a", "bs-a", ""), (39.2, "a", "bs-a", "b"), (50.0, "a", "bs-b", "b"),
              (50.2, "b", "bs-b", "")]  # fmt: skip
    for at_s, service_at, radio_at, prepare_at in stages:
        plan = timing.plan_at(at_s, HERE, THERE)
        assert (plan.service_at, plan.radio_at, plan.prepare_at) == (
            service_at, radio_at, prepare_at,
        )  # fmt: skip
    assert "84 ms" in timing.plan_at(0.0, HERE, THERE).reason


def test_a_service_that_stays_is_not_prepared():
    timing = coordinated(Durations(0.0, 0.0, 0.5), Coordination(0.0, 50.0))
    stays = replace(THERE, service_at="a")
    assert {timing.plan_at(at, HERE, stays).prepare_at for at in (49.0, 50.0, 50.3)} == {""}
    assert timing.plan_at(50.0, HERE, stays).radio_at == "bs-b"


def test_what_happened_stands_beside_what_was_planned():
    timing = coordinated(SHORT, Coordination(0.0, 50.0))
    found = trigger_records(
        timing,
        user="u",
        migration=migration(requested_s=39.200, frozen_s=50.180),
        handover=HandoverRecord("u", "a", "b", "bs-a", "bs-b", started_s=50.001, ended_s=50.501),
    )
    # 39.200 - 39.195 = 5 ms late; 50.180 - 50.195 = 15 ms early; 1 ms late
    errors = {record.trigger: record.error_ms for record in found}
    assert errors == pytest.approx({"pre-migration": 5.0, "migration": -15.0, "handover": 1.0})
    assert {(r.user, r.migration, r.variant) for r in found} == {("u", "m01", "coordinated")}


def test_what_did_not_happen_has_no_trigger():
    timing = coordinated(SHORT, Coordination(0.0, 50.0))
    assert trigger_records(timing, user="u") == []
    found = trigger_records(timing, user="u", migration=migration(requested_s=39.0))
    assert [record.trigger for record in found] == ["pre-migration"]


def test_an_unknown_variant_is_answered_with_the_nearest():
    assert find_variant("late") is late
    with pytest.raises(ScenarioError, match="coordinated"):
        find_variant("coordinate")


@pytest.mark.parametrize("wrong", [{"margin": -0.1}, {"alignment": 1.5}])
def test_a_coordination_without_meaning_is_refused(wrong):
    with pytest.raises(ScenarioError):
        Coordination(0.0, 0.0, **wrong)


def test_a_base_station_that_is_never_lost_sets_no_limit():
    assert math.isinf(Coordination(0.0, 5.0).last_s)
