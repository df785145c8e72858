from __future__ import annotations

from dataclasses import fields

from p2pfl.cards import AgreedColumn, Agreement
from p2pfl.learning.own.interface import OPTIONAL, PREDICTING, Agreed, Task


def test_what_is_agreed_is_what_a_model_depends_on() -> None:
    columns = (AgreedColumn("age", "number"),)
    agreement = Agreement(("cat",), 9, input_shape=(3, 4), columns=columns)
    assert Agreed.of(agreement) == Agreed(("cat",), columns, (3, 4), 9)


def test_all_parts_of_a_task_but_two_are_optional() -> None:
    assert {field.name for field in fields(Task)} == {"model", "data", *OPTIONAL, *PREDICTING}
