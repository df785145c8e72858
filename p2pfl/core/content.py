"""What the content of records, updates and evaluations must satisfy, as pure functions that name the flaw.

The order of records and the votes for them are checked elsewhere (`p2pfl.core.ledger`); here is what follows
from the run's specification and roster alone, so that every member judges a proposal alike.
"""

from __future__ import annotations

from p2pfl.messages import Evaluation, Genesis, Record, RosterEntry, UpdateEntry
from p2pfl.spec import RunSpec, metric_names, record_roles, update_roles


def roles_flaw(record: Record | Genesis, spec: RunSpec) -> str:
    """Say which blobs of *record* a run of *spec* does not have, or lacks; empty when all is well."""
    if record.blobs.roles != record_roles(spec):
        return f"it names the blobs {', '.join(record.blobs.roles)}, not {', '.join(record_roles(spec))}"
    updates = record.updates if isinstance(record, Record) else ()
    wanted = update_roles(spec)
    wrong = next((update.blobs.roles for update in updates if update.blobs.roles != wanted), None)
    return f"an update in it names the blobs {', '.join(wrong)}, not {', '.join(wanted)}" if wrong else ""


def metrics_flaw(evaluation: Evaluation, spec: RunSpec) -> str:
    """Say how the metrics of *evaluation* differ from those of a run of *spec*; empty when they do not."""
    if evaluation.names == metric_names(spec):
        return ""
    return f"an evaluation has the metrics {', '.join(evaluation.names)}, not {', '.join(metric_names(spec))}"


def count_flaw(update: UpdateEntry, entry: RosterEntry | None) -> str:
    """Say why *update* must not count as it is for *entry*, its member's in the roster; empty when it may."""
    if entry is None or update.journal != entry.journal:
        return "it is of nobody in the roster"
    if update.samples > entry.examples:
        return f"it claims {update.samples} samples, and its data card stated {entry.examples}"
    return ""
