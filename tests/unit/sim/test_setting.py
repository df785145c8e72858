import pytest

from p2pfl.errors import ProtocolError
from p2pfl.messages import RecordsRequest
from p2pfl.runtime import driver
from p2pfl.sim.setting import (
    DEFER_SECONDS,
    NEVER,
    node_id,
    sampling_of,
    signer_of,
    spec_of,
    stopping_of,
    strategy_of,
    through_codec,
    verify,
)
from p2pfl.strategy_specs import ScaffoldSpec, least_updates, state_slots
from tests.support.records import digest

ONE, OTHER = node_id(0), node_id(1)


def test_node_ids_are_well_formed_and_in_no_order_of_their_own() -> None:
    ids = [node_id(index) for index in range(8)]
    assert len(set(ids)) == 8
    assert ids != sorted(ids)
    assert all(through_codec(RecordsRequest(digest("run"), 0)) for _ in ids)


def test_a_sound_message_passes_the_codec_unchanged() -> None:
    assert through_codec(RecordsRequest(digest("run"), -1)) == RecordsRequest(digest("run"), -1)


def test_a_message_out_of_bounds_does_not_pass_the_codec() -> None:
    with pytest.raises(ProtocolError, match="cannot be understood"):
        through_codec(RecordsRequest("no digest", 0))


def test_a_spec_has_the_rounds_it_was_asked_for() -> None:
    assert spec_of(7).rounds == 7


def test_half_of_the_worlds_have_a_rule_for_stopping_early_and_some_have_both_parts_of_it() -> None:
    rules = [stopping_of(seed) for seed in range(12)]
    assert 4 <= rules.count(NEVER) <= 6
    assert any(rule.until is not None and rule.patience for rule in rules)
    assert spec_of(7, stopping=rules[3]).stopping == rules[3] != NEVER


def test_in_two_of_five_worlds_only_some_members_train() -> None:
    specs = [spec_of(7, sampling=sampling_of(seed)).participation for seed in range(5)]
    chosen = [(one.sample, one.fraction, one.sample_by) for one in specs]
    assert chosen.count((0, 0.0, "uniform")) == 3
    assert {one[2] for one in chosen} == {"uniform", "examples"}


def test_what_the_real_driver_has_in_common_is_the_same_there() -> None:
    assert driver.LATER_SECONDS == DEFER_SECONDS


def test_a_device_signs_as_itself_and_as_nobody_else() -> None:
    one, other = signer_of(ONE), signer_of(OTHER)
    signature = one.sign(b"text")
    assert verify(ONE, one.key, signature, b"text")
    assert not verify(ONE, one.key, signature, b"another text")
    assert not verify(ONE, one.key, other.sign(b"text"), b"text")
    assert not verify(OTHER, one.key, signature, b"text")
    assert not verify(OTHER, other.key, signature, b"text")


def test_three_worlds_in_seven_have_a_strategy_with_a_state() -> None:
    found = [strategy_of(seed, 5) for seed in range(7)]
    assert [bool(state_slots(one)) for one in found] == [False, False, True, False, True, False, True]
    assert [least_updates(one) for one in found] == [1, 1, 1, 1, 1, 1, 3]
    assert spec_of(3, strategy=found[2]).strategy == ScaffoldSpec()
