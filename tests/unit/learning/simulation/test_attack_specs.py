from __future__ import annotations

import pytest

from p2pfl.errors import UserError
from p2pfl.learning.simulation.attack_specs import ATTACKS, Backdoor, SignFlip, make_attack


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_defaults_and_says_where_it_comes_from(name: str) -> None:
    attack = make_attack(name, {})
    assert attack.__struct_config__.tag == name
    assert " 20" in str(type(attack).__doc__), "the year of a paper"


def test_options_are_those_of_the_attack() -> None:
    assert make_attack("sign-flip", {"scale": 4}) == SignFlip(4.0)
    assert make_attack("backdoor", {"target": 3, "size": 1}) == Backdoor(target=3, size=1)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("signflip", {}, "no attack 'signflip'; did you mean 'sign-flip'"),
        ("magic", {}, "no attack 'magic'; the attacks are label-flip, sign-flip"),
        ("sign-flip", {"factor": 2}, "attack 'sign-flip' has no option 'factor'; its options are scale"),
        ("gaussian", {"sigma": -1}, "attack 'gaussian': sigma is -1, and a number > 0"),
        ("label-flip", {"target": 2}, "no option 'target'; it has none"),
    ],
)
def test_what_is_wrong_is_said_with_what_there_is(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_attack(name, options)
