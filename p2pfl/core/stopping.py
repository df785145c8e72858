"""Decides when a run ends before its last round (rule "Stopping early").

The evaluations in a record are of its parent's model. A record whose evaluations meet the run's stopping rule
trains nothing: it is of kind "evaluate" and ends the run. The decision depends on committed records and on
the record itself, so every member checks it, also after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from p2pfl.cards import Agreement, Measures, metric_text
from p2pfl.messages import Evaluation, Genesis, MemberEvaluation, Record, add_evaluations, quorum
from p2pfl.spec import MetricTarget, Stopping

STOPPED = "the run ends early, so this round counts no update"
"""Why no update of the round is used whose record ends the run early."""


class MetricHistory(msgspec.Struct, frozen=True):
    """What the committed evaluations of a run say about its primary metric."""

    best: float | None = None
    """The best value of any model; None before the first evaluation."""
    best_round: int = 0
    """The training round of that model."""
    without_better: int = 0
    """Number of models evaluated since then. The end of a run resets it, so a run that is extended has its
    whole patience again."""
    is_reached: bool = False
    """Whether a model reached the target. Then the target does not end the run again once it is extended."""


Judged = tuple[int, Evaluation]
"""The training round of a model and its evaluation by at least a quorum."""


def judged(parent: Record | None, evaluations: Sequence[MemberEvaluation]) -> Judged | None:
    """Return how *evaluations* judge the model of the record *parent*, or None if they do not judge it.

    Only the model of a training round is judged, and only by a quorum of the members: the held-out data of a
    few could reach the target by chance. *parent* is None for record 0.
    """
    if parent is None or parent.kind != "train":
        return None
    members = {entry.node for entry in parent.roster} & {one.node for one in evaluations}
    if len(members) < quorum(len(parent.roster)):
        return None
    return parent.trained, add_evaluations(one.evaluation for one in evaluations)


def decide_stopping(
    stopping: Stopping, measures: Measures, history: MetricHistory, found: Judged | None
) -> tuple[bool, str]:
    """Return whether the record with the evaluations *found* ends the run early, and why."""
    if found is None:
        return False, "no model is judged"
    target, metrics = stopping.until, found[1].metrics
    if target is not None and not history.is_reached and _meets(target, measures, metrics):
        return True, f"{target.metric} {metric_text(metrics[target.metric])} reached {target.value:g}"
    after = _judge(history, measures, found)
    if stopping.patience and after.without_better >= stopping.patience and after.best is not None:
        rounds = f"{after.without_better} round{'' if after.without_better == 1 else 's'}"
        best = f"best {metric_text(after.best)} in round {after.best_round}"
        return True, f"no better {measures.primary} for {rounds} ({best})"
    return False, "the stopping rule is not met"


def follow(
    history: MetricHistory, stopping: Stopping, measures: Measures, parent: Record | None, record: Record
) -> MetricHistory:
    """Return *history* after *record*, which follows *parent* (None: record 0)."""
    found = judged(parent, record.evaluations)
    if found is not None:
        history = _judge(history, measures, found)
        target = stopping.until
        if target is not None and _meets(target, measures, found[1].metrics):
            history = msgspec.structs.replace(history, is_reached=True)
    return msgspec.structs.replace(history, without_better=0) if record.then == "end" else history


def history_of(genesis: Genesis, records: Iterable[Record]) -> MetricHistory:
    """Return the history after *records*, all committed records of the run of *genesis* in order."""
    history, parent = MetricHistory(), None
    for record in records:
        history = follow(history, genesis.spec.stopping, genesis.agreement.measures, parent, record)
        parent = record
    return history


def unknown_target(stopping: Stopping, agreement: Agreement) -> str:
    """Return why the target of *stopping* can never be reached in a run of *agreement*; empty if it can."""
    target, known = stopping.until, agreement.metric_names
    if target is None or target.metric in known:
        return ""
    return (
        f"the run is to end at {target.metric} {target.value:g}, but its evaluations measure "
        f"{', '.join(known)}"
    )


def _judge(history: MetricHistory, measures: Measures, found: Judged) -> MetricHistory:
    round_, evaluation = found
    value = evaluation.metrics.get(measures.primary)
    if value is None:
        return history
    if measures.is_better(value, history.best):
        return msgspec.structs.replace(history, best=value, best_round=round_, without_better=0)
    return msgspec.structs.replace(history, without_better=history.without_better + 1)


def _meets(target: MetricTarget, measures: Measures, metrics: dict[str, float]) -> bool:
    value = metrics.get(target.metric)
    return value is not None and measures.reaches(target.metric, value, target.value)
