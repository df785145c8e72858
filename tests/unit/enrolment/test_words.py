from __future__ import annotations

import pytest

from p2pfl.enrolment.words import is_code, new_code, parse_code, word_list
from p2pfl.errors import UserError


def test_the_list_has_2048_words_that_differ_in_their_first_four_letters() -> None:
    assert len(word_list()) == 2048
    assert len({word[:4] for word in word_list()}) == 2048


def test_a_new_code_is_three_words_of_the_list_and_another_one_each_time() -> None:
    codes = {new_code() for _ in range(20)}
    assert len(codes) == 20
    assert all(parse_code(code) == code and len(code.split("-")) == 3 for code in codes)


@pytest.mark.parametrize(
    "typed",
    [
        "lemon-tiger-voyage",
        "Lemon Tiger Voyage",
        "  lemon  tiger,voyage ",
        "LEMON_TIGER.VOYAGE",
        "lemon—tiger–voyage",
    ],
)
def test_capitals_and_what_stands_between_the_words_do_not_matter(typed: str) -> None:
    assert parse_code(typed) == "lemon-tiger-voyage"
    assert is_code(typed)


def test_a_word_that_is_in_no_code_is_named_with_similar_ones() -> None:
    with pytest.raises(UserError, match=r"'tigre' is in no code: did you mean .*tiger"):
        parse_code("lemon tigre voyage")
    with pytest.raises(UserError, match="'xqzw' is in no code: look at the inviting device again"):
        parse_code("lemon xqzw voyage")
    assert not is_code("lemon tigre voyage")


@pytest.mark.parametrize(("typed", "count"), [("", 0), ("lemon tiger", 2), ("lemon tiger voyage zebra", 4)])
def test_another_number_of_words_is_no_code(typed: str, count: int) -> None:
    with pytest.raises(UserError, match=f"A code has 3 words, .* has {count}"):
        parse_code(typed)
    assert not is_code(typed)


def test_an_address_is_no_code() -> None:
    assert not is_code("192.0.2.7:9010")
