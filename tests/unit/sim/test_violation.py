from p2pfl.sim.violation import Violation


def test_a_violation_names_the_invariant_first_and_is_an_assertion_that_failed() -> None:
    violation = Violation("agreement", "two records chosen for round 3")
    assert isinstance(violation, AssertionError)
    assert (violation.kind, str(violation)) == ("agreement", "agreement: two records chosen for round 3")
