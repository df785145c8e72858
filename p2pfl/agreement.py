"""Merges the data cards of the founding members into the agreement of a run, and checks later cards.

What would make the training useless is a refusal before the first round, with the name of the device. What
only makes it worse is a note in the agreement, which every device shows. All functions are pure, so that all
members come to the same result.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, assert_never

import msgspec

from p2pfl.card_checks import agreement_flaw, card_flaw
from p2pfl.cards import (
    CLASSIFICATION,
    MAX_CATEGORIES,
    MAX_CLASSES,
    MAX_EXAMPLES,
    MAX_NOTES,
    MAX_SUMS,
    REGRESSION,
    AgreedColumn,
    Agreement,
    ColumnCard,
    DataCard,
    Measures,
)
from p2pfl.spec import (
    MAX_METRIC_NAME,
    SHARES,
    BuiltinTask,
    FileTask,
    PicturesTask,
    RunSpec,
    ScriptTask,
    Share,
    TableTask,
    TaskSpec,
    adapts_to_devices,
    share_of,
    task_name,
)

MAX_NUMBER_CLASSES = 20
"""A target of whole numbers is a class if all devices together have at most this number of different ones."""

UNIT_FACTOR = 50.0
"""Ratio of the sizes of a column's values on two devices from which on other units are suspected: less than
the 100 between metres and centimetres."""

NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
"""Names of classes that are sorted by their value."""

MAX_AGREED_SIDE = 128
"""Largest edge in pixels to which pictures are scaled unless the run says a size."""

SAME_COLUMNS = "use tables with the same columns on all devices"

Cards = Mapping[str, DataCard]
"""Data cards by the name of their device."""


class _Mismatch(Exception):  # noqa: N818  no error of the program: an answer
    """The cards allow no agreement; the text says why, as half a sentence that names the device."""


def merge_cards(task: TaskSpec, cards: Cards) -> tuple[Agreement | None, str]:
    """Return the agreement of the founding members' data *cards*, or None and the reason for a mismatch.

    *cards* holds at least one card by member name; their order does not matter.
    """
    try:
        agreement = _noted(_merge(task, cards), cards)
    except _Mismatch as reason:
        return None, str(reason)
    flaw = agreement_flaw(task, agreement)
    return (None, flaw) if flaw else (agreement, "")


def agree(spec: RunSpec, cards: Cards) -> tuple[Agreement | None, str]:
    """Return what `merge_cards` returns, with all metrics of a run of *spec*."""
    agreement, flaw = merge_cards(spec.task, cards)
    if agreement is None or not adapts_to_devices(spec):
        return agreement, flaw
    measures = agreement.measures.with_personal()
    if len(measures.metrics) > MAX_SUMS or any(len(name) > MAX_METRIC_NAME for name in measures.metrics):
        return None, (
            f"the metrics of adapted models come on top of those of the task, and {MAX_SUMS} with names of "
            f"{MAX_METRIC_NAME} characters are possible together: use fewer metrics, or shorter names"
        )
    return msgspec.structs.replace(agreement, measures=measures), ""


def _noted(agreement: Agreement, cards: Cards) -> Agreement:
    """Return *agreement* with a note for each device whose strategy has another source than the first one.

    A device that was started with another strategy tells no source.
    """
    told = {name: cards[name].strategy_source for name in sorted(cards) if cards[name].strategy_source}
    first = next(iter(told), "")
    notes = [
        f"{source_note('strategy', name)} from that on {first}"
        for name, source in told.items()
        if source != told[first]
    ]
    return msgspec.structs.replace(agreement, notes=_shortened([*agreement.notes, *notes]))


def _merge(task: TaskSpec, cards: Cards) -> Agreement:
    match task:
        case BuiltinTask():
            return _merge_builtin(task, cards)
        case PicturesTask():
            return _merge_pictures(task, _checked(task, cards))
        case TableTask():
            return _merge_tables(task, _checked(task, cards))
        case FileTask() | ScriptTask():
            return _merge_own(task, _checked(task, cards))
        case _:
            assert_never(task)


def stated_examples(task: TaskSpec, card: DataCard | None, own: DataCard) -> int:
    """Return the number of examples stated by *card* for *task*; *own* is this device's card.

    Updates may count as many. A script tells the number with each update, so its card does not limit it.
    """
    if isinstance(task, ScriptTask):
        return MAX_EXAMPLES if task.share != "none" else 1
    if isinstance(task, BuiltinTask):
        # All have the same public data set; a device started for another task describes it when offered.
        return card.examples if card is not None and card.task == task.name else own.examples
    return card.examples if card is not None else 1


def misfit(task: TaskSpec, agreement: Agreement, card: DataCard) -> str:
    """Return why the data of *card* do not fit *agreement* as half a sentence; empty if they do."""
    if card.task != task_name(task):
        return f"it has data for the task {_short(card.task)}, and the run is for {task_name(task)!r}"
    if card.share != agreement.share:
        return (
            f"it tells {card.share!r} about its data, and the run {agreement.share!r}: use the same "
            "--share on all devices"
        )
    if flaw := card_flaw(task, card) or agreement_flaw(task, agreement):
        return flaw
    if agreement.target is not None:
        return _table_misfit(agreement, card)
    common = agreement.measures.without_personal()
    if card.measures != common:
        return _measures_differ(card.measures, common)
    if card.examples > agreement.examples:
        return f"its data have {card.examples} examples, and those of the run {agreement.examples}"
    if isinstance(task, BuiltinTask):
        return _order_misfit(agreement, card)
    if isinstance(task, FileTask) and card.input_shape != agreement.input_shape:
        return (
            f"its inputs have the shape {_shape(card.input_shape)}, and those of the run "
            f"{_shape(agreement.input_shape)}"
        )
    if unknown := [label for label in card.classes if label not in agreement.classes]:
        return f"its data have {_classes(unknown)}, which the run does not have"
    return ""


# --- built-in tasks -----------------------------------------------------------------------------------------


def _merge_builtin(task: BuiltinTask, cards: Cards) -> Agreement:
    """Cards of another task are ignored: their devices describe the data when they are offered the run."""
    own = {name: card for name, card in cards.items() if card.task == task.name}
    if not own:
        raise _Mismatch(f"nobody has described the data of {task.name}")
    first = min(own)
    card = own[first]
    agreement = Agreement(
        card.classes, min(card.examples for card in own.values()), card.measures, card.share
    )
    for name in sorted(own):
        flaw = misfit(task, agreement, own[name])
        if flaw:
            raise _Mismatch(f"the data of {name} do not fit those of {first}: {flaw}")
    return agreement


def _order_misfit(agreement: Agreement, card: DataCard) -> str:
    """Return why the classes of *card* are not those of *agreement* in the same order; empty if they are."""
    theirs, mine = agreement.classes, card.classes
    if mine == theirs:
        return ""
    if missing := [label for label in theirs if label not in mine]:
        return f"its data lack {_classes(missing)} of the run"
    if unknown := [label for label in mine if label not in theirs]:
        return f"its data have {_classes(unknown)}, which the run does not have"
    at = next(place for place, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    return (
        f"its classes come in another order: class {at} is {_short(mine[at])} here and {_short(theirs[at])} "
        "in the run"
    )


# --- private data -------------------------------------------------------------------------------------------


def _checked(task: TaskSpec, cards: Cards) -> Cards:
    """Return *cards* if all are for *task* and tell the same about their data."""
    _check_names(task_name(task), cards)
    _check_shares(share_of(task), cards)
    for name in sorted(cards):
        card = cards[name]
        if flaw := card_flaw(task, card):
            raise _Mismatch(f"the data of {name} cannot be used: {flaw}")
    return cards


def _check_names(own: str, cards: Cards) -> None:
    """Refuse *cards* for other tasks than *own*; the sentence is the same on both devices that it names."""
    others = [name for name in sorted(cards) if cards[name].task != own]
    if not others:
        return
    mine = next((name for name in sorted(cards) if cards[name].task == own), "")
    names = sorted(name for name in (others[0], mine) if name)
    told = " and ".join(f"{name} has data for the task {_short(cards[name].task)}" for name in names)
    run = "" if mine else f", and this run is for {own!r}"
    raise _Mismatch(f"{told}{run}: start all devices for the same task")


def _check_shares(own: Share, cards: Cards) -> None:
    """Refuse *cards* that tell more or less than *own*; the sentence is the same on all devices."""
    told = {card.share for card in cards.values()}
    if told == {own}:
        return
    parts = [
        f"{share!r} on {', '.join(name for name in sorted(cards) if cards[name].share == share)}"
        for share in SHARES
        if share in told
    ]
    least = next(share for share in SHARES if share in told)  # nobody is asked to tell more than it wants
    raise _Mismatch(
        f"the devices do not tell the same about their data ({'; '.join(parts)}): start all of them with "
        f"--share {least}"
    )


def _merge_pictures(task: PicturesTask, cards: Cards) -> Agreement:
    classes = _union(cards)
    shapes = {name: card.input_shape for name, card in cards.items()}
    notes = [*_own_notes(cards), *_class_notes(cards, classes), *_shape_notes(shapes)]
    channels = max(shape[0] for shape in shapes.values())
    sides = [side for shape in shapes.values() for side in shape[1:]]
    side = task.image_size or min(*sides, MAX_AGREED_SIDE)
    shape: tuple[int, ...] = (channels, side, side)
    if not task.image_size and len(set(shapes.values())) == 1 and max(sides) <= MAX_AGREED_SIDE:
        shape = next(iter(shapes.values()))
    return Agreement(
        classes, MAX_EXAMPLES, CLASSIFICATION, task.share, input_shape=shape, notes=_shortened(notes)
    )


def _merge_own(task: FileTask | ScriptTask, cards: Cards) -> Agreement:
    first = min(cards)
    measures, shape, source = cards[first].measures, cards[first].input_shape, cards[first].source
    notes = _own_notes(cards)
    for name in sorted(cards):
        card = cards[name]
        if card.measures != measures:
            raise _Mismatch(f"{name} and {first} differ: {_measures_differ(card.measures, measures)}")
        if card.input_shape != shape:
            raise _Mismatch(
                f"the inputs of {name} have the shape {_shape(card.input_shape)}, and those of {first} "
                f"{_shape(shape)}: use data of the same shape on all devices"
            )
        if card.source != source:
            notes.append(f"{source_note('task', name)} from that on {first}")
    lists = {card.classes for card in cards.values()}
    # The order in which the user declared the classes stays: a loss of the user's own may depend on it.
    classes = lists.pop() if len(lists) == 1 else _union(cards)
    notes += _class_notes(cards, classes)
    return Agreement(classes, MAX_EXAMPLES, measures, task.share, input_shape=shape, notes=_shortened(notes))


def source_note(what: Literal["task", "strategy"], name: str) -> str:
    """Return the beginning of the note that the user's code on device *name* is another one."""
    return f"the source of the {what} on {name} differs"


def _measures_differ(theirs: Measures, agreed: Measures) -> str:
    """Return how *theirs*, of one device, differ from those *agreed*; they are not equal."""
    for what, one, other in (
        ("loss", theirs.loss, agreed.loss),
        ("metrics", ", ".join(theirs.metrics), ", ".join(agreed.metrics)),
        (
            "primary metric",
            f"{theirs.primary} ({theirs.direction})",
            f"{agreed.primary} ({agreed.direction})",
        ),
    ):
        if one != other:
            return f"its {what}: {one}, in place of {other}; use the same task on all devices"
    return "one counts classes and the other does not; use the same task on all devices"


def _union(cards: Cards) -> tuple[str, ...]:
    """Return the classes of all *cards*, sorted; numbers by their value."""
    classes = _sorted({label for card in cards.values() for label in card.classes})
    if len(classes) == 1:
        raise _Mismatch(
            f"all devices together have one class, {_short(classes[0])}: nothing can be learned from it"
        )
    if len(classes) > MAX_CLASSES:
        raise _Mismatch(f"the devices have {len(classes)} classes together, and {MAX_CLASSES} are possible")
    return classes


def _sorted(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    if all(NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _own_notes(cards: Cards) -> list[str]:
    return [f"{name}: {note}" for name in sorted(cards) for note in cards[name].notes]


def _class_notes(cards: Cards, classes: Sequence[str]) -> list[str]:
    """Name the classes that one device alone has, and those that single devices lack."""
    notes = []
    if len(cards) > 1:
        known = {name: frozenset(card.classes) for name, card in cards.items()}
        holders = {label: [name for name in sorted(cards) if label in known[name]] for label in classes}
        for name in sorted(cards):
            alone = [label for label in classes if holders[label] == [name]]
            if alone:
                notes.append(f"only {name} has {_classes(alone)}")
            lacks = [label for label in classes if label not in known[name] and len(holders[label]) > 1]
            if lacks:
                notes.append(f"{name} has no examples of {_classes(lacks)}")
    return notes


def _shape_notes(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    if len(set(shapes.values())) == 1:
        return []
    told = ", ".join(f"{_shape(shapes[name])} on {name}" for name in sorted(shapes))
    return [f"pictures differ in channels or size ({told}): all are converted to one shape"]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "no shape"


# --- tables -------------------------------------------------------------------------------------------------


def _merge_tables(task: TableTask, cards: Cards) -> Agreement:
    first = min(cards)
    names = [column.name for column in cards[first].columns]
    for name in sorted(cards):
        _check_columns(name, cards[name], first, names)
    notes = _own_notes(cards)
    described = {name: _columns_by_name(card) for name, card in cards.items()}
    columns = []
    for index in range(len(names)):
        parts = {name: described[name][names[index]] for name in sorted(cards)}
        columns.append(_merge_column(parts, notes))
        notes += _unit_notes(parts)
    targets = {name: card for name in sorted(cards) if (card := cards[name].target) is not None}
    target = _merge_target(task, targets)
    if target.kind == "number":
        return Agreement(
            (),
            MAX_EXAMPLES,
            REGRESSION,
            task.share,
            columns=tuple(columns),
            target=target,
            notes=_shortened([*notes, *_unit_notes(targets)]),
        )
    notes += _class_notes(cards, target.categories)
    return Agreement(
        target.categories,
        MAX_EXAMPLES,
        CLASSIFICATION,
        task.share,
        columns=tuple(columns),
        target=target,
        notes=_shortened(notes),
    )


def _check_columns(name: str, card: DataCard, first: str, names: Sequence[str]) -> None:
    own, agreed = {column.name for column in card.columns}, frozenset(names)
    if missing := [column for column in names if column not in own]:
        raise _Mismatch(f"the table of {name} lacks {_columns(missing)}, which {first} has: {SAME_COLUMNS}")
    if extra := sorted(own - agreed):
        raise _Mismatch(f"the table of {name} has {_columns(extra)}, which {first} lacks: {SAME_COLUMNS}")


def _columns_by_name(card: DataCard) -> dict[str, ColumnCard]:
    return {column.name: column for column in card.columns}


def _merge_column(parts: Mapping[str, ColumnCard], notes: list[str]) -> AgreedColumn:
    """Merge one column of all devices; append to *notes* what is lost."""
    told = {name: part for name, part in parts.items() if part.values} or dict(parts)
    kinds = {part.kind for part in told.values()}
    if len(kinds) > 1:
        number, text = (
            next(name for name in sorted(told) if told[name].kind == kind) for kind in ("number", "category")
        )
        column = _short(next(iter(parts.values())).name)
        raise _Mismatch(
            f"the column {column} holds numbers on {number} and text on {text}: look for cells on {text} "
            "that are no numbers"
        )
    name, kind = next(iter(told.values())).name, kinds.pop()
    is_gappy = any(part.missing for part in parts.values())
    if kind == "category":
        holders = Counter(label for part in told.values() for label in set(part.categories))
        kept = sorted(holders, key=lambda label: (-holders[label], label))[:MAX_CATEGORIES]
        if len(kept) < len(holders):
            notes.append(
                f"the column {_short(name)} has {len(holders)} categories on all devices together: "
                f"{MAX_CATEGORIES} that most devices have are kept, and the others count as unknown"
            )
        return AgreedColumn(name, kind, is_gappy, categories=_sorted(kept))
    mean, deviation = _pooled(told.values())
    return AgreedColumn(name, kind, is_gappy, mean, deviation)


def _pooled(parts: Iterable[ColumnCard]) -> tuple[float, float]:
    """Return mean and standard deviation of the values of all *parts*; a deviation of 0 becomes 1.

    Means and sums of squares are combined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances" (1979), so that no digits cancel.
    """
    known = [part for part in parts if part.values]
    count = sum(part.values for part in known)
    if not count:
        return 0.0, 1.0
    mean = math.fsum(part.values / count * part.mean for part in known)
    variance = 0.0
    for part in known:
        difference = part.mean - mean  # its square may exceed a float: a peer chose it
        variance += part.spread / count + part.values / count * difference * difference
    deviation = math.sqrt(variance)
    return mean, deviation if deviation > 1e-12 * abs(mean) and math.isfinite(deviation) else 1.0


def _merge_target(task: TableTask, parts: Mapping[str, ColumnCard]) -> AgreedColumn:
    """Decide whether the target is a class or a number, and merge it."""
    column = _short(task.target)
    texts = [name for name in sorted(parts) if parts[name].kind == "category"]
    numbers = [name for name in sorted(parts) if parts[name].kind == "number"]
    if texts and numbers and task.target_kind != "class":
        raise _Mismatch(f"the target {column} holds numbers on {numbers[0]} and text on {texts[0]}")
    if texts and task.target_kind == "number":
        raise _Mismatch(f"the target {column} holds text on {texts[0]}, and the run predicts a number")
    classes = _sorted({label for part in parts.values() for label in part.categories})
    many = [name for name in numbers if not parts[name].categories]
    is_class = bool(texts) or (not many and len(classes) <= MAX_NUMBER_CLASSES)
    if task.target_kind == "class" and many:
        raise _Mismatch(f"the target {column} has too many different values on {many[0]} to be a class")
    if task.target_kind == "class" or (task.target_kind == "auto" and is_class):
        if len(classes) > MAX_CATEGORIES:
            raise _Mismatch(
                f"the target {column} has {len(classes)} classes, and {MAX_CATEGORIES} are possible"
            )
        if len(classes) == 1:
            raise _Mismatch(f"the target {column} has the class {_short(classes[0])} only, on all devices")
        return AgreedColumn(task.target, "category", categories=classes)
    mean, deviation = _pooled(parts.values())
    return AgreedColumn(task.target, "number", mean=mean, deviation=deviation)


def _unit_notes(parts: Mapping[str, ColumnCard]) -> list[str]:
    """Name the devices whose values of a column are so large or small that the unit may be another one."""
    sizes = {name: _size(part) for name, part in parts.items() if part.values and part.kind == "number"}
    sizes = {name: size for name, size in sizes.items() if size > 0}
    notes = []
    for name in sorted(sizes):
        others = [size for other, size in sizes.items() if other != name]
        if not others:
            continue
        is_large = sizes[name] >= UNIT_FACTOR * max(others)
        # Of two devices only the one with the larger values is named.
        is_small = len(others) > 1 and sizes[name] * UNIT_FACTOR <= min(others)
        if is_large or is_small:
            bound = f"at most {max(others):.4g}" if is_large else f"at least {min(others):.4g}"
            notes.append(
                f"the column {_short(parts[name].name)} has values of about {sizes[name]:.4g} on {name} and "
                f"{bound} on the others: is it in another unit?"
            )
    return notes


def _size(part: ColumnCard) -> float:
    """Return the root mean square of the values, which another unit multiplies whatever their mean is."""
    return math.hypot(part.mean, math.sqrt(part.spread / part.values))


def _table_misfit(agreement: Agreement, card: DataCard) -> str:
    assert agreement.target is not None
    own, theirs = _columns_by_name(card), {column.name: column for column in agreement.columns}
    assert card.target is not None, "the card was checked"
    if missing := [name for name in theirs if name not in own]:
        return f"its table lacks {_columns(missing)} of the run"
    if extra := [name for name in own if name not in theirs]:
        return f"its table has {_columns(extra)}, which the run does not have"
    for name, column in theirs.items():
        if own[name].values and own[name].kind != column.kind:
            kinds = {"number": "numbers", "category": "text"}
            mine, agreed = kinds[own[name].kind], kinds[column.kind]
            return f"its column {_short(name)} holds {mine}, and in the run {agreed}"
    if agreement.target.kind == "number":
        return "" if card.target.kind == "number" else f"its target {_short(card.target.name)} holds text"
    unknown = [label for label in card.target.categories if label not in agreement.classes]
    if unknown or not card.target.categories:
        what = _classes(unknown) if unknown else "too many different values"
        return f"its target has {what}, which the run does not have"
    return ""


# --- text ---------------------------------------------------------------------------------------------------


def _shortened(notes: Sequence[str]) -> tuple[str, ...]:
    kept = [note[:300] for note in notes]
    if len(kept) > MAX_NOTES:
        kept = [*kept[: MAX_NOTES - 1], f"and {len(kept) - MAX_NOTES + 1} more"]
    return tuple(kept)


def _classes(labels: Iterable[str]) -> str:
    return _listed(labels, "class", "classes")


def _columns(names: Iterable[str]) -> str:
    return _listed(names, "column", "columns")


def _listed(names: Iterable[str], one: str, many: str) -> str:
    named = [_short(name) for name in names]
    shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    return f"the {one if len(named) == 1 else many} {shown}"


def _short(text: str) -> str:
    return repr(text if text.isprintable() else "?")[:40]
