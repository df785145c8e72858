from __future__ import annotations

from collections import Counter

import pytest
from blake3 import blake3

from p2pfl.learning.holdout import hash_contents, hold_out


def _keys(count: int, seed: str = "") -> list[bytes]:
    return [blake3(f"{seed}{index}".encode()).digest() for index in range(count)]


def _held_out(labels: list[int], share: float, seed: str = "") -> Counter[int]:
    train, test = hold_out(labels, _keys(len(labels), seed), share)
    assert sorted((*train, *test)) == list(range(len(labels)))
    return Counter(labels[index] for index in test)


def test_each_class_gives_its_share() -> None:
    assert _held_out([0] * 100 + [1] * 50 + [2] * 10, 0.1) == {0: 10, 1: 5, 2: 1}


def test_a_rare_class_gives_one_before_a_common_one_gives_more() -> None:
    assert _held_out([0] * 95 + [1] * 5, 0.1) == {0: 9, 1: 1}


def test_the_sum_is_the_share_of_all_also_if_no_class_has_as_many() -> None:
    assert sum(_held_out([label for label in range(10) for _ in range(5)], 0.1).values()) == 5


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [0, 1, 2, 3], [0, 0, 1]])
def test_at_least_one_example_is_held_out_and_one_is_not(labels: list[int]) -> None:
    assert sum(_held_out(labels, 0.01).values()) == 1
    assert 1 <= sum(_held_out(labels, 0.99).values()) < len(labels)


def test_a_class_of_one_example_stays_in_training() -> None:
    assert _held_out([0, 1, 1, 1, 1], 0.5) == {1: 2}


def test_the_keys_choose_and_the_order_of_the_examples_does_not() -> None:
    labels, keys = [0, 1] * 50, _keys(100)
    chosen = {keys[index] for index in hold_out(labels, keys, 0.2)[1]}
    assert chosen == {keys[::-1][index] for index in hold_out(labels[::-1], keys[::-1], 0.2)[1]}
    assert hold_out(labels, keys, 0.2) != hold_out(labels, _keys(100, "other"), 0.2)


def test_more_examples_keep_most_of_those_held_out() -> None:
    keys = _keys(220)
    before = {keys[index] for index in hold_out([0] * 200, keys[:200], 0.1)[1]}
    after = {keys[index] for index in hold_out([0] * 220, keys, 0.1)[1]}
    assert len(before & after) >= 17


def test_a_key_follows_from_seed_and_content() -> None:
    keys = hash_contents(1, [b"a", b"b"])
    assert hash_contents(1, [b"b", b"c", b"a"])[::2] == keys[::-1]
    assert not set(keys) & set(hash_contents(2, [b"a", b"b"]))


def test_copies_are_held_out_as_often_as_others() -> None:
    contents = [b"f", b"m"] * 200
    _, test = hold_out([0] * 400, hash_contents(1, contents), 0.2)
    counts = Counter(contents[index] for index in test)
    assert min(counts[b"f"], counts[b"m"]) >= 25
