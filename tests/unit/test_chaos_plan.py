"""The plan of a chaos run follows from its seed, and leaves no kind of fault out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.plan import CLUSTER_KINDS, SERVICE_KINDS, SERVICES, plan


def test_the_same_seed_plans_the_same_faults_and_another_one_others() -> None:
    assert plan(1, 300) == plan(1, 300)
    assert plan(1, 300) != plan(2, 300)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_before_any_comes_twice_and_all_end_in_time(seed: int) -> None:
    faults = plan(seed, 300)
    for kinds in (SERVICE_KINDS, CLUSTER_KINDS):
        names = {kind.name for kind in kinds}
        track = [fault for fault in faults if fault.kind in names]
        assert {fault.kind for fault in track[: len(names)]} == names
        assert all(one.ends < other.begins for one, other in pairwise(track))
        assert all(0 < fault.begins < fault.ends <= 300 for fault in track)
    assert not any(fault.patient for fault in faults if not fault.of_cluster)
    # Some faults meet a cluster that has recovered, and some one that has not.
    assert {fault.patient for fault in faults if fault.of_cluster} == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_what_cannot_be_undone_comes_once(seed: int) -> None:
    once = {kind.name for kind in (*SERVICE_KINDS, *CLUSTER_KINDS) if kind.once}
    assert once == {"more_partitions"}
    assert [fault.kind for fault in plan(seed, 1200) if fault.kind in once] == ["more_partitions"]
    assert len(plan(seed, 1200, ["more_partitions"])) == 1


def test_a_plan_can_be_of_some_kinds_and_targets_only() -> None:
    faults = plan(1, 120, ["kill:ingress", "all_away"])
    assert {(fault.kind, fault.target) for fault in faults} == {("kill", "ingress"), ("all_away", "all")}
    assert {fault.kind for fault in plan(1, 120, ["cut"])} == {"cut"}


def test_a_fault_that_there_is_not_is_refused_and_a_plan_has_those_that_were_asked_for() -> None:
    with pytest.raises(ValueError, match="no such faults: clock, kill:nobody"):
        plan(1, 300, ["clock", "kill:nobody", "kill"])
    assert plan(1, 300, ["remade"]) == []  # it comes behind the plan
    found = plan(1, 300, ["clock_ahead", "clock_behind:lookup"])
    assert {(fault.kind, fault.target) for fault in found if fault.kind == "clock_behind"} == {
        ("clock_behind", "lookup")
    }
    assert {fault.target for fault in found if fault.kind == "clock_ahead"} == set(SERVICES)
