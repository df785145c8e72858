from __future__ import annotations

import numpy as np

from p2pfl.learning.tables.row_keys import MISSING, add_column, number_keys, ranks, text_key


def test_a_number_has_one_key_however_it_is_written() -> None:
    keys = number_keys(np.array([0.0, -0.0, 1.5, float("nan")]))
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == MISSING
    assert text_key("a") != text_key("b")


def test_a_row_has_one_key_in_any_order_of_the_columns_and_others_with_other_names() -> None:
    ages, sexes = np.array([40, 41], np.uint64), np.array([1, 2], np.uint64)
    one, other, swapped = (np.zeros(2, np.uint64) for _ in range(3))
    add_column(one, "age", ages)
    add_column(one, "sex", sexes)
    add_column(other, "sex", sexes)
    add_column(other, "age", ages)
    add_column(swapped, "age", sexes)
    add_column(swapped, "sex", ages)
    assert (one == other).all()
    assert (one != swapped).all()


def test_ranks_follow_from_content_and_seed_and_copies_have_different_ones() -> None:
    rows = np.array([7, 8, 7, 9, 7], np.uint64)
    found = ranks(rows, 1)
    assert len(set(found.tolist())) == 5
    assert found[[1, 3]].tolist() == ranks(rows[[1, 3]], 1).tolist()
    assert not set(found.tolist()) & set(ranks(rows, 2).tolist())


def test_copies_are_ranked_like_other_rows() -> None:
    rows = np.array([1, 2] * 200, np.uint64)
    first = rows[np.argsort(ranks(rows, 1))[:80]]
    assert min((first == 1).sum(), (first == 2).sum()) >= 25
