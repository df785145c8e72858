from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import TaskError
from p2pfl.learning.partition import (
    MIN_EXAMPLES,
    Dirichlet,
    Iid,
    Labels,
    Natural,
    Quantity,
    Scheme,
    Shards,
    divide,
    parse,
)

LABELS = [index % 10 for index in range(1000)]

schemes = st.one_of(
    st.just(Iid()),
    st.floats(0.001, 1e6).map(Dirichlet),
    st.integers(1, 5).map(Shards),
    st.floats(0.001, 1e6).map(Quantity),
)


@given(
    st.lists(st.integers(0, 9), min_size=60, max_size=300), schemes, st.integers(1, 12), st.integers(0, 2**53)
)
def test_parts_are_disjoint_complete_and_none_is_small(
    labels: list[int], scheme: Scheme, parts: int, seed: int
) -> None:
    division = divide(labels, scheme, parts, seed)
    assert len(division) == parts
    assert sorted(index for part in division for index in part) == list(range(len(labels)))
    least = 1 if isinstance(scheme, Shards) else min(MIN_EXAMPLES, len(labels) // parts)
    assert min(map(len, division)) >= least


@given(schemes, st.integers(1, 12), st.integers(0, 2**53))
def test_a_division_depends_on_its_arguments_only(scheme: Scheme, parts: int, seed: int) -> None:
    first = divide(LABELS, scheme, parts, seed)
    random.seed(seed)
    assert divide(LABELS, scheme, parts, seed) == first


def test_divisions_are_the_same_on_every_machine() -> None:
    labels = [index % 3 for index in range(30)]
    assert divide(labels, Iid(), 3, 1)[0] == [0, 2, 6, 9, 11, 14, 15, 18, 22, 28]
    assert divide(labels, Dirichlet(0.5), 3, 1)[0] == [0, 1, 3, 6, 12, 15, 18, 19, 21, 24, 27]
    assert divide(labels, Shards(2), 3, 1)[0] == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]
    assert divide(labels, Labels(2), 3, 1)[0] == [0, 6, 8, 11, 15, 18, 20, 23, 26, 27]
    assert divide(labels, Quantity(0.5), 3, 1)[0] == [0, 2, 3, 8, 17, 21, 26, 29]
    owners = [index % 7 for index in range(30)]
    assert divide(labels, Natural("who"), 3, 1, owners)[0] == [0, 3, 4, 7, 10, 11, 14, 17, 18, 21, 24, 25, 28]


@pytest.mark.parametrize("scheme", [Iid(), Dirichlet(0.5), Shards(2), Labels(3), Quantity(0.5)])
def test_another_seed_gives_another_division(scheme: Scheme) -> None:
    assert divide(LABELS, scheme, 4, 1) != divide(LABELS, scheme, 4, 2)


def test_iid_parts_have_equal_sizes_and_all_labels() -> None:
    for part in divide(LABELS, Iid(), 4, 3):
        assert len(part) == 250
        assert {LABELS[index] for index in part} == set(range(10))


def test_shards_give_a_part_few_labels() -> None:
    for part in divide(LABELS, Shards(2), 5, 3):
        assert len(part) == 200
        assert len({LABELS[index] for index in part}) <= 2


@pytest.mark.parametrize(("each", "parts"), [(1, 10), (2, 5), (3, 7), (10, 3), (2, 40)])
def test_a_part_has_its_number_of_labels_and_every_label_has_a_part(each: int, parts: int) -> None:
    division = divide(LABELS, Labels(each), parts, 3)
    assert sorted(index for part in division for index in part) == list(range(1000))
    assert [len({LABELS[index] for index in part}) for part in division] == [each] * parts


def test_the_parts_with_a_label_share_its_examples_equally() -> None:
    division = divide(LABELS, Labels(2), 20, 3)
    assert {len(part) for part in division} == {50}


@pytest.mark.parametrize(
    ("labels", "each", "parts", "words"),
    [
        (LABELS, 11, 5, "10 labels, and each partition is to have 11; use labels:10 or less"),
        (LABELS, 2, 4, "4 partitions of 2 leave some of them to nobody; use labels:3 or more"),
        ([0, 1, 1, 1, 1, 1, 1, 1], 1, 5, "too few examples of a label for 5 partitions"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[int], each: int, parts: int, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        divide(labels, Labels(each), parts, 0)


def test_sizes_differ_and_labels_do_not() -> None:
    division = divide(LABELS, Quantity(0.5), 5, 3)
    sizes = sorted(map(len, division))
    assert sizes[-1] > 5 * sizes[0]
    for part in division:
        if len(part) > 200:
            assert {LABELS[index] for index in part} == set(range(10))


def test_all_examples_of_an_owner_are_in_one_part() -> None:
    owners = [f"owner {index % 7}" for index in range(1000)]
    division = divide(LABELS, Natural("who"), 3, 1, owners)
    held = [{owners[index] for index in part} for part in division]
    assert sorted(map(len, held)) == [2, 2, 3]
    assert len(set.union(*held)) == 7
    assert divide(LABELS, Natural("who"), 7, 1, owners) != divide(LABELS, Natural("who"), 7, 2, owners)


def test_without_owners_nothing_is_divided_by_them() -> None:
    with pytest.raises(TaskError, match="have no 'who' that names the owner"):
        divide(LABELS, Natural("who"), 3, 1)
    with pytest.raises(TaskError, match="'who' names 2 owners, too few for 3 partitions; use at most 2"):
        divide(LABELS, Natural("who"), 3, 1, [index % 2 for index in range(1000)])


def _largest_share(alpha: float) -> float:
    """The mean over parts of the share its commonest label has."""
    division = divide(LABELS, Dirichlet(alpha), 5, 3)
    counts = [[sum(LABELS[index] == label for index in part) for label in range(10)] for part in division]
    return sum(max(count) / sum(count) for count in counts) / len(counts)


def test_a_smaller_alpha_skews_labels_more() -> None:
    assert _largest_share(0.05) > 0.4 > _largest_share(0.5) > 0.15 > _largest_share(1000.0)


def test_one_part_is_everything() -> None:
    assert divide(LABELS, Dirichlet(0.5), 1, 0) == [list(range(1000))]


@pytest.mark.parametrize(("scheme", "word"), [(Iid(), "11 partitions"), (Shards(2), "22 shards")])
def test_more_parts_than_examples_are_refused(scheme: Scheme, word: str) -> None:
    with pytest.raises(TaskError, match=word):
        divide(LABELS[:10], scheme, 11, 0)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("iid", Iid()),
        ("dirichlet:0.5", Dirichlet(0.5)),
        ("dirichlet:1e3", Dirichlet(1000)),
        ("shards:2", Shards(2)),
        ("labels:3", Labels(3)),
        ("quantity:0.5", Quantity(0.5)),
        ("natural:writer id", Natural("writer id")),
    ],
)
def test_schemes_are_understood(text: str, scheme: Scheme) -> None:
    assert parse(text) == scheme


BAD = """
IID iid: iid:3 dirichlet dirichlet: dirichlet:x dirichlet:0 dirichlet:-1 dirichlet:nan dirichlet:inf
shards shards: shards:0 shards:-2 shards:1.5 shards:² shards:9999999
labels labels: labels:0 labels:x quantity quantity:x quantity:0 natural natural:
"""


@pytest.mark.parametrize("text", ["", *BAD.split()])
def test_other_text_is_answered_with_how_to_write_it(text: str) -> None:
    with pytest.raises(TaskError, match="write iid, dirichlet:ALPHA"):
        parse(text)
