"""The base of all parts of a run's specification."""

from __future__ import annotations

import msgspec


class SpecPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Common settings of all parts of a specification.

    A field with its default value is left out of the encoding, so that a new option leaves old digests as
    they are. A default can therefore never change.
    """
