from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.given_options import (
    HOW_TO_DECIDE,
    Giver,
    Holding,
    decide_holding_options,
    flag_of,
    given_options,
)
from p2pfl.core.options import Options
from p2pfl.messages import MAX_GIVEN, MAX_OPTION_TEXT, GivenOption
from p2pfl.runtime.configure import RUN_OPTIONS
from p2pfl.spec import with_options
from tests.support.core import options
from tests.support.records import SPEC


def given(*names: str, **values: Any) -> dict[str, str]:
    """The texts of the options *values*; *names* were given with the values of the spec."""
    made = options(spec=with_options(SPEC, **values))
    return texts(msgspec.structs.replace(made, given=frozenset({*names, *values})))


def texts(made: Options) -> dict[str, str]:
    return {option.name: option.value for option in given_options(made)}


def decide(*givers: Giver) -> Holding:
    """The decision, which does not depend on the order."""
    found = decide_holding_options(list(givers))
    assert decide_holding_options(list(reversed(givers))) == found
    return found


# --- what was given -----------------------------------------------------------------------------------------


def test_only_what_was_given_is_told_and_also_where_it_is_the_default() -> None:
    assert given("rounds", learning_rate=0.25) == {"learning_rate": "0.25", "rounds": str(SPEC.rounds)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"class_weights": True}, {"class_weights": "yes"}),
        ({"until": {"metric": "accuracy", "value": 0.9}}, {"until": "accuracy=0.9"}),
        ({"until": None}, {"until": "None"}),
        ({"personal": ("head.*", "bn.*")}, {"personal": "head.*,bn.*"}),
        (
            {"lora": {"target": ("attn.*",), "train": ("head.*",)}},
            {"lora": "rank=8,alpha=16.0, target attn.*, train head.*"},
        ),
        ({"lora": {"target": ("attn.*",), "rank": 4}}, {"lora": "rank=4,alpha=16.0, target attn.*"}),
    ],
)
def test_values_are_told_as_on_the_command_line(values: dict[str, Any], text: dict[str, str]) -> None:
    assert given(**values) == text


def test_a_switch_that_is_off_is_told_as_such() -> None:
    assert given("class_weights") == {"class_weights": "no"}


def test_a_strategy_is_told_with_its_arguments() -> None:
    strategy = with_options(SPEC, strategy="trimmed-mean", strategy_arg={"attackers": 2})
    made = options(spec=strategy, given=frozenset({"strategy", "strategy_arg"}))
    (option,) = given_options(made)
    assert (option.name, "attackers 2" in option.value) == ("strategy", True)


def test_the_number_of_parts_is_told_though_the_spec_does_not_have_it_yet() -> None:
    assert texts(options(given=frozenset({"partitions"}), partitions=7)) == {"partitions": "7"}


def test_an_option_that_the_task_does_not_have_is_not_told() -> None:
    assert texts(options(given=frozenset({"image_size"}))) == {}


def test_a_long_value_is_shortened_and_stays_distinct() -> None:
    values = [given(personal=(*(f"layer{index}.*" for index in range(30)), end))["personal"] for end in "ab"]
    assert [len(value) for value in values] == [MAX_OPTION_TEXT] * 2
    assert values[0] != values[1]


def test_all_options_of_a_run_fit_a_status() -> None:
    assert len(RUN_OPTIONS) <= MAX_GIVEN
    encoded = msgspec.msgpack.encode([GivenOption(name, "x") for name in RUN_OPTIONS])
    assert msgspec.msgpack.decode(encoded, type=list[GivenOption])


def test_the_names_are_those_of_the_command_line() -> None:
    assert flag_of("batch_size") == "--batch-size"
    assert flag_of("learning_rate") == "--lr"


# --- whose options hold -------------------------------------------------------------------------------------

ADA = Giver("a", "ada", {})
BEN = Giver("b", "ben", {"rounds": "5"})
CLEO = Giver("c", "cleo", {"rounds": "5", "seed": "2"})
DAN = Giver("d", "dan", {"rounds": "7", "seed": "2"})


def test_without_options_anybody_may_found() -> None:
    assert decide(ADA) == Holding(None)


def test_a_device_with_options_founds_before_one_without() -> None:
    assert decide(ADA, BEN) == Holding(frozenset("b"), "--rounds 5", "ben")


def test_devices_with_the_same_options_may_all_found() -> None:
    also = msgspec.structs.replace(BEN, node="e", name="eve")
    assert decide(ADA, BEN, also) == Holding(frozenset("be"), "--rounds 5", "ben")
    assert decide_holding_options([ADA, BEN, also], "e").of == "eve", "a device names itself before others"


def test_a_device_that_was_given_all_that_any_was_given_founds() -> None:
    assert decide(BEN, CLEO) == Holding(frozenset("c"), "--rounds 5, --seed 2", "cleo")


def test_two_values_of_one_option_let_nobody_found_and_are_named_with_their_devices() -> None:
    holding = decide(BEN, CLEO, DAN)
    assert holding.founders == frozenset()
    assert holding.difference == f"--rounds is 5 on ben and 7 on dan; {HOW_TO_DECIDE}"


def test_different_options_let_nobody_found_since_one_of_them_would_be_lost() -> None:
    lr = Giver("e", "eve", {"learning_rate": "0.1"})
    holding = decide(CLEO, lr)
    assert holding.founders == frozenset()
    what = "--lr is 0.1 on eve and not given on cleo, which has --rounds 5"
    assert holding.difference == f"{what}; {HOW_TO_DECIDE}"


def test_the_last_start_holds_whatever_was_given_elsewhere() -> None:
    first, last = (msgspec.structs.replace(one, choice=n) for n, one in enumerate((BEN, DAN), 1))
    assert decide(ADA, first, CLEO) == Holding(frozenset("b"), "--rounds 5", "ben")
    assert decide(ADA, first, CLEO, last) == Holding(frozenset("d"), "--rounds 7, --seed 2", "dan")


def test_of_two_starts_at_the_same_time_the_lower_id_holds_also_with_defaults() -> None:
    assert decide(*(msgspec.structs.replace(one, choice=1) for one in (ADA, BEN))) == Holding(
        frozenset("a"), "", "ada"
    )


def test_texts_of_peers_are_shown_as_one_short_line() -> None:
    odd = Giver("e", "eve\nroot", {"rounds": "5\x1b[2J" + "9" * 90})
    text = decide(BEN, odd).difference
    assert text.isprintable()
    assert len(text) < 300
    shown = decide(Giver("e", "eve", {f"o{n}": "x" * 90 for n in "abcdefghij"})).options
    assert len(shown) <= 200
