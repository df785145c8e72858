from __future__ import annotations

import msgspec
import pytest

from p2pfl.personal_specs import Personalisation
from p2pfl.spec import RunSpec, to_options, with_options
from tests.support.records import SPEC

_encode = msgspec.msgpack.Encoder().encode


def test_runs_without_personal_tensors_are_encoded_as_before() -> None:
    assert "personalisation" not in msgspec.to_builtins(SPEC)
    assert SPEC.personalisation == Personalisation((), 0)


def test_the_options_of_a_run_have_its_patterns() -> None:
    spec = with_options(SPEC, personal=("head.*", "bn*"), personalise=2)
    assert spec.personalisation == Personalisation(("head.*", "bn*"), 2)
    assert to_options(spec)["personal"] == ("head.*", "bn*")
    assert msgspec.msgpack.decode(_encode(spec), type=RunSpec) == spec


@pytest.mark.parametrize(("name", "value"), [("personal", ("",)), ("personalise", -1)])
def test_options_out_of_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        with_options(SPEC, **{name: value})
