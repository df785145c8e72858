from __future__ import annotations

from p2pfl.core.lease import MAX_ROUND_CAPS, LeaderLease, LeaseStep, hear, renew
from tests.support.core import ballot

CAP = 60.0
BEN = ballot(2, "ben")


def heard(step: LeaseStep = LeaseStep.STANDS, at: float = 100.0) -> LeaderLease:
    return hear(None, BEN, step, at)


def test_a_candidate_is_left_one_round_cap() -> None:
    assert heard().until(CAP) == 160.0


def test_hearing_the_same_again_leaves_no_more_time() -> None:
    before = heard(LeaseStep.COLLECTS)
    assert hear(before, BEN, LeaseStep.COLLECTS, 130.0) == before
    assert hear(before, BEN, LeaseStep.STANDS, 130.0) == before


def test_a_further_step_leaves_more_time() -> None:
    assert hear(heard(LeaseStep.COLLECTS), BEN, LeaseStep.PROPOSES, 130.0).until(CAP) == 190.0


def test_another_ballot_is_left_its_own_time() -> None:
    assert hear(heard(), ballot(3, "cleo"), LeaseStep.STANDS, 130.0).until(CAP) == 190.0


def test_whatever_progress_there_is_it_comes_to_an_end() -> None:
    lease = heard()
    for seconds in range(0, 1000, 10):
        lease = renew(lease, 100.0 + seconds)
    assert lease.until(CAP) == 100.0 + MAX_ROUND_CAPS * CAP
