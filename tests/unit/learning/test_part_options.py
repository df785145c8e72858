from __future__ import annotations

import pytest

from p2pfl.errors import UserError
from p2pfl.learning.part_options import expectation, make_part
from p2pfl.strategy_specs import FedAdamSpec, FedAvgSpec, MultiKrumSpec


def test_options_make_a_part() -> None:
    assert make_part("strategy 'fedadam'", FedAdamSpec, {"beta1": 0}) == FedAdamSpec(beta1=0.0)
    assert make_part("strategy 'fedavg'", FedAvgSpec, {}) == FedAvgSpec()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kep": 5}, r"The thing has no option 'kep'; did you mean 'keep'\?$"),
        ({"size": 5}, r"The thing has no option 'size'; its options are attackers, keep\.$"),
        ({"keep": "all"}, r"The thing: keep is 'all', and a whole number is expected\.$"),
        ({"attackers": -1}, r"The thing: attackers is -1, and a whole number >= 0 is expected\.$"),
    ],
)
def test_what_is_wrong_is_one_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_part("thing", MultiKrumSpec, options)


def test_a_part_may_have_no_options() -> None:
    with pytest.raises(UserError, match=r"The thing has no option 'mu'; it has none\.$"):
        make_part("thing", FedAvgSpec, {"mu": 1})


def test_types_are_told_in_words() -> None:
    assert expectation("Expected `float` <= 1.0") == "a number <= 1.0"
    assert expectation("Expected `bool`, got `str`") == "true or false"
    assert expectation("Expected `str` of length <= 3") == "a text of length <= 3"
    assert expectation("expected `object | null`, got `int`") == "a table of options"
    assert expectation("Expected `int | str`") == "a whole number or a text"
    assert expectation("Expected `str` matching regex '^[a-z]+$'") == "a text of another form"
    assert expectation("Invalid enum value 'x'") == "another value"
