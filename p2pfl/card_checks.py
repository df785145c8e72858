"""Checks of a single data card and of a single agreement, both of which may come from a peer.

Types and bounds of single fields are checked while a message is decoded. What depends on several fields is
checked here, before anything is computed from it. `p2pfl.agreement` compares cards with each other.
"""

from __future__ import annotations

import msgspec

from p2pfl.cards import Agreement, DataCard
from p2pfl.spec import MAX_IMAGE_SIZE, PicturesTask, TableTask, TaskSpec

MAX_CARD_BYTES = 256 * 1024
"""Maximum size of an encoded card. A control frame holds 1 MiB."""

MAX_AGREEMENT_BYTES = 512 * 1024
"""Maximum size of an encoded agreement; record 0 with it fits a control frame."""

MAX_PICTURE_SIDE = 2**17
"""Maximum width and height in pixels that a card may tell."""

_encode = msgspec.msgpack.Encoder().encode


def card_flaw(task: TaskSpec, card: DataCard) -> str:
    """Return why *card* can be no card for *task*, as half a sentence; empty if it can."""
    if len(set(card.classes)) < len(card.labels):
        return "its data name a class twice"
    names = [column.name for column in card.columns]
    if len(set(names)) < len(names):
        return "its table has two columns of the same name"
    if isinstance(task, PicturesTask) and not _is_picture(card.input_shape, MAX_PICTURE_SIDE):
        return "it tells no shape of pictures"
    if isinstance(task, TableTask) and (card.target is None or card.target.name != task.target):
        own = "no column" if card.target is None else f"the column {card.target.name[:40]!r}"
        return f"it predicts {own}, and the run {task.target[:40]!r}: use the same --target on all devices"
    size = len(_encode(card))
    if size > MAX_CARD_BYTES:
        return (
            f"the description of its data has {size} bytes, and {MAX_CARD_BYTES} are possible: leave out "
            "columns, first those with many different texts"
        )
    return ""


def agreement_flaw(task: TaskSpec, agreement: Agreement) -> str:
    """Return why *agreement* can be none for *task*, as half a sentence; empty if it can."""
    if len(set(agreement.classes)) < len(agreement.classes):
        return "the agreement of the run names a class twice"
    names = [column.name for column in agreement.columns]
    if len(set(names)) < len(names):
        return "the agreement of the run names a column twice"
    if isinstance(task, PicturesTask) and not _is_picture(agreement.input_shape, MAX_IMAGE_SIZE):
        return "the agreement of the run has no possible shape of pictures"
    if isinstance(task, TableTask):
        target = agreement.target
        if target is None or (target.kind == "category" and target.categories != agreement.classes):
            return "the agreement of the run has no target that fits its classes"
        if any(column.deviation <= 0 for column in (*agreement.columns, target)):
            return "the agreement of the run has a column without a deviation"
    size = len(_encode(agreement))
    if size > MAX_AGREEMENT_BYTES:
        return (
            f"the descriptions of the data of all devices have {size} bytes together, and "
            f"{MAX_AGREEMENT_BYTES} are possible: leave out columns, first those with many different texts"
        )
    return ""


def _is_picture(shape: tuple[int, ...], most: int) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3) and all(1 <= side <= most for side in shape[1:])
