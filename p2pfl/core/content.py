"""Pure checks of the content of records, updates and evaluations; each returns the flaw it finds.

They depend only on record 0 and the roster, so every member judges a proposal alike, and so does
`p2pfl history --verify`. `p2pfl.core.ledger` checks the order of records and the votes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pfl.cards import Agreement, counted_classes
from p2pfl.messages import Evaluation, Genesis, Record, RecordBlobs, RosterEntry, UpdateEntry
from p2pfl.spec import RunSpec, record_roles, update_roles
from p2pfl.strategy_specs import least_updates, strategy_name


def roles_flaw(record: Record | Genesis, spec: RunSpec) -> str:
    """Return which blob roles of *record* do not match *spec*; empty if all match.

    A strategy has no state before the first aggregation. So record 0 of a run that continues no other one
    names none, and a record without updates may name none (`kept_flaw` compares it with its parent).
    """
    wanted, has_state = record_roles(spec), bool(record.blobs.state)
    may_lack = not record.updates if isinstance(record, Record) else True
    may_have = isinstance(record, Record) or bool(record.continues)
    if record.blobs.roles != wanted and (has_state or not may_lack):
        return f"it names the blobs {', '.join(record.blobs.roles)}, not {', '.join(wanted)}"
    if has_state and not may_have:
        return "it names a state, and nothing was aggregated before it"
    updates = record.updates if isinstance(record, Record) else ()
    wanted = update_roles(spec)
    wrong = next((update.blobs.roles for update in updates if update.blobs.roles != wanted), None)
    return f"an update in it names the blobs {', '.join(wrong)}, not {', '.join(wanted)}" if wrong else ""


def metrics_flaw(evaluation: Evaluation, agreement: Agreement) -> str:
    """Return what in *evaluation* does not fit *agreement* or is impossible; empty if nothing is."""
    agreed, classes = agreement.measures.metrics, counted_classes(agreement)
    if evaluation.names != agreed:
        return f"an evaluation has the metrics {', '.join(evaluation.names)}, not {', '.join(agreed)}"
    if len(evaluation.classes) != classes:
        return f"an evaluation counts {len(evaluation.classes)} classes, not {classes}"
    wrong = next((one for one in evaluation.classes if one.right > min(one.examples, one.predicted)), None)
    if wrong is not None:
        return (
            f"an evaluation counts {wrong.right} right examples of a class that has {wrong.examples} and was "
            f"predicted for {wrong.predicted}"
        )
    return ""


def count_flaw(update: UpdateEntry, entry: RosterEntry | None) -> str:
    """Return why *update* must not count, given the roster *entry* of its member; empty if it may."""
    if entry is None or update.journal != entry.journal:
        return "it is not from a member of the roster"
    if update.examples > entry.examples:
        return f"it claims {update.examples} samples, and its data card stated {entry.examples}"
    return ""


def shortage(counted: int, spec: RunSpec) -> str:
    """Return why *counted* updates, at least one, are too few for the strategy of *spec*; empty if not."""
    least = least_updates(spec.strategy)
    return (
        f"{strategy_name(spec.strategy)} needs {least} updates, and {counted} came" if counted < least else ""
    )


def kept_flaw(record: Record, parent: RecordBlobs) -> str:
    """Return why *record*, after a record with the blobs *parent*, may not have its blobs; empty if it may.

    Only updates change the model or the state of the strategy.
    """
    if record.updates or record.blobs == parent:
        return ""
    return "it counts no update, and does not repeat the blobs of the record before it"


def record_flaw(
    record: Record,
    genesis: Genesis,
    roster: Iterable[RosterEntry],
    *,
    roles: Callable[[Record | Genesis, RunSpec], str] = roles_flaw,
    metrics: Callable[[Evaluation, Agreement], str] = metrics_flaw,
    counts: Callable[[UpdateEntry, RosterEntry | None], str] = count_flaw,
    enough: Callable[[int, RunSpec], str] = shortage,
) -> str:
    """Return what in *record* does not fit *genesis* and the *roster* that votes on it; empty if all fits.

    The simulator replaces *roles*, *metrics*, *counts* or *enough*.
    """
    if flaw := roles(record, genesis.spec):
        return flaw
    for one in record.evaluations:
        if flaw := metrics(one.evaluation, genesis.agreement):
            return flaw
    entries = {entry.node: entry for entry in roster}
    for update in record.updates:
        entry = entries.get(update.node)
        if flaw := counts(update, entry):
            name = entry.name if entry is not None else update.node[:7]
            return f"an update of {name} in it does not count: {flaw}"
    if record.updates and (flaw := enough(len(record.updates), genesis.spec)):
        return f"it counts too few updates: {flaw}"
    return ""


def kind_flaw(record: Record, parent: str, trained: int, *, stops: bool, why: str) -> str:
    """Return why *record* may not train, or may not close the run; empty if it may do what it does.

    *parent* is the digest of the parent's model, to which *trained* rounds of training led. *stops* says that
    the evaluations in the record end the run early, and *why*.
    """
    if record.kind == "train":
        return f"it goes on with the training, although {why}" if stops else ""
    if not stops and trained < record.rounds:
        return "it ends the run early, and its evaluations are no reason to"
    if record.then != "end" or record.updates or record.model != parent:
        return "it closes the run, but does not end it with the parent's model"
    return ""
