from __future__ import annotations

import msgspec
import pytest

from p2pfl.spec_part import SpecPart


class _Part(SpecPart, frozen=True, tag="part"):
    size: int
    speed: float = 1.0


def test_a_field_with_its_default_value_is_not_encoded() -> None:
    assert msgspec.json.encode(_Part(3)) == b'{"type":"part","size":3}'
    assert msgspec.json.encode(_Part(3, 2.0)) == b'{"type":"part","size":3,"speed":2.0}'


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `color`"):
        msgspec.json.decode(b'{"type":"part","size":3,"color":1}', type=_Part)


def test_a_part_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        _Part(3).size = 4  # type: ignore[misc]
