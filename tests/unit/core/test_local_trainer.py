from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Evaluate, SaveUpdate, Send, StopTraining, Train
from p2pfl.core.local_trainer import LocalTrainer, WorkBase, evaluation_of
from p2pfl.messages import Ack, Collect, Member, Report, Submit, UpdateBlobs
from p2pfl.spec import RunSpec, partitions_of
from tests.support.core import ballot, chain_of, context, ledger, model, of_kind, sent, taken, told, training
from tests.support.known import known
from tests.support.records import NAMES, STATEFUL, evaluation, node, result_of, update


class Bench:
    """A member in round 2 with its ledger; every call returns the effects."""

    def __init__(self, rounds: int = 1, spec: RunSpec | None = None) -> None:
        self.ctx = context("ada")
        self.chain = chain_of(*NAMES[:3], rounds=rounds, spec=spec)
        self.ledger = ledger(self.ctx, self.chain)
        self.handed_in: list[Submit] = []
        self.it = LocalTrainer(self.ctx, self.ledger, self.handed_in.append)

    def begin(self, *, ready: bool = True, leaving: bool = False) -> list[AnyEffect]:
        self.it.begin(ready=ready, declines="it is leaving" if leaving else "")
        return taken(self.ctx)

    def train(self) -> list[AnyEffect]:
        self.it.trained(result_of("ada", 2))
        return taken(self.ctx)

    def collect(self, attempt: int, name: str, *, selected: bool = True) -> list[AnyEffect]:
        message = Collect(self.chain.run, self.ledger.round + 1, ballot(attempt, name), selected)
        self.is_news = self.it.collect(message)
        return taken(self.ctx)

    def note(self, attempt: int, name: str, refused: str = "") -> list[AnyEffect]:
        self.it.note(Ack(self.chain.run, self.ledger.round + 1, ballot(attempt, name), refused))
        return taken(self.ctx)

    def advance(self, seconds: float) -> list[AnyEffect]:
        self.ctx.now += seconds
        self.it.advance()
        return taken(self.ctx)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_training_begins_with_the_round_whoever_is_elected(bench: Bench) -> None:
    effects = bench.begin()
    (train,) = of_kind(effects, Train)
    assert (train.job.round, train.job.model, train.job.partition) == (2, bench.ledger.model, 0)
    (evaluate,) = of_kind(effects, Evaluate)
    assert (evaluate.job.round, evaluate.job.part, evaluate.job.parts) == (1, 0, 3)


def test_nothing_begins_before_the_worker_and_the_parents_blobs_are_there(bench: Bench) -> None:
    assert bench.begin(ready=False) == []
    bench.ledger.holds = False
    assert bench.begin() == []


def test_the_first_model_of_a_run_is_not_evaluated() -> None:
    assert of_kind(Bench(rounds=0).begin(), Evaluate) == []


def test_a_member_trains_once_however_often_it_is_asked(bench: Bench) -> None:
    bench.begin()
    assert bench.begin() == []
    bench.train()
    assert bench.begin() == []
    bench.collect(1, "ben")
    bench.collect(2, "cleo")
    assert bench.begin() == []


def test_an_update_is_announced_without_waiting_for_the_disk_and_remembered(bench: Bench) -> None:
    bench.begin()
    bench.collect(1, "ben")
    effects = bench.train()
    kinds = [type(effect) for effect in effects if isinstance(effect, SaveUpdate | Send)]
    assert kinds == [Send, SaveUpdate]
    assert of_kind(effects, SaveUpdate)[0].previous == bench.ledger.digest


def test_the_same_update_is_offered_to_every_later_aggregator(bench: Bench) -> None:
    bench.begin()
    bench.train()
    first = sent(bench.collect(1, "ben"), Submit)
    bench.note(1, "ben")
    second = sent(bench.collect(2, "cleo"), Submit)
    assert [submit.update for submit in first + second] == [update("ada", 2)] * 2
    assert second[0].ballot == ballot(2, "cleo")


def test_an_earlier_aggregator_is_not_answered_any_more(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.collect(2, "cleo")
    assert bench.collect(1, "ben") == []
    assert not bench.is_news


def test_an_announcement_is_repeated_until_it_is_acknowledged(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.collect(1, "ben")
    assert sent(bench.advance(bench.ctx.settings.resend), Submit)
    bench.note(1, "ben")
    assert bench.advance(60.0) == []
    assert bench.it.resend_at is None


def test_the_acknowledgement_of_an_earlier_ballot_stops_nothing(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.collect(1, "ben")
    bench.collect(2, "cleo")
    bench.note(1, "ben")
    assert not bench.it.acked


def test_a_refused_update_is_told_once(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.collect(1, "ben")
    (refused,) = told(bench.note(1, "ben", refused="tensor weight holds a NaN"), events.UpdateRefused)
    assert (refused.name, refused.reason) == ("ada", "tensor weight holds a NaN")
    assert bench.note(1, "ben", refused="tensor weight holds a NaN") == []


def test_an_update_that_the_deadline_cut_says_how_much_was_planned(bench: Bench) -> None:
    bench.begin()
    bench.it.trained(msgspec.structs.replace(result_of("ada", 2), planned=120))
    assert bench.it.update is not None
    assert (bench.it.update.steps, bench.it.update.planned) == (7, 120)
    (told_,) = told(taken(bench.ctx), events.TrainingFinished)
    assert (told_.steps, told_.planned) == (7, 120)


def test_an_update_from_before_a_restart_is_offered_and_not_trained_again(bench: Bench) -> None:
    bench.it.restore(update("ada", 2))
    effects = bench.begin()
    assert of_kind(effects, Train) == []
    assert told(effects, events.UpdateReused) == [events.UpdateReused(2, update("ada", 2).digest)]
    assert sent(bench.collect(1, "ben"), Submit)[0].update == update("ada", 2)


def test_a_contribution_to_ones_own_candidacy_takes_no_link(bench: Bench) -> None:
    bench.begin()
    bench.train()
    assert sent(bench.collect(1, "ada"), Submit) == []
    assert [submit.update for submit in bench.handed_in] == [update("ada", 2)]


def test_nothing_is_offered_while_the_update_is_awaited(bench: Bench) -> None:
    bench.begin()
    assert bench.collect(1, "ben") == []


def test_who_is_asked_later_than_the_sample_trains_then_and_announces_again(bench: Bench) -> None:
    # Outside the sample at first: only the evaluation is wanted and noted; the update must still be repeated.
    bench.it.evaluated(evaluation(8, 10, 2.0))
    bench.collect(1, "ben", selected=False)
    bench.note(1, "ben")
    bench.collect(1, "ben", selected=True)
    assert of_kind(bench.begin(), Train)
    bench.train()
    assert sent(bench.advance(bench.ctx.settings.resend), Submit)[0].update == update("ada", 2)


def test_an_evaluation_goes_to_everybody_and_into_the_contribution(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.it.evaluated(evaluation(8, 10, 2.0))
    assert sent(bench.collect(1, "ben"), Submit)[0].evaluation == evaluation(8, 10, 2.0)
    after = bench.ctx.settings.report_after
    assert bench.it.deadline == bench.ctx.now + after
    assert sent(bench.advance(after / 2), Report) == []
    assert len(sent(bench.advance(after / 2), Report)) == 2
    assert sent(bench.advance(after), Report) == []


def test_an_evaluation_knows_the_partition_that_the_device_trains_on(bench: Bench) -> None:
    roster = bench.it.ledger.roster
    base = WorkBase.of(bench.it.ledger)
    jobs = [evaluation_of(bench.it.ledger, 1, base, Member(one.node, one.journal)) for one in roster]
    parts = partitions_of(bench.it.ledger.spec.task)
    assert [job.partition for job in jobs] == [one.slot % parts for one in roster]
    assert [job.part for job in jobs] == [*range(len(roster))]


def test_a_model_that_is_lost_after_its_evaluation_stops_nothing_and_is_not_evaluated_again(
    bench: Bench,
) -> None:
    bench.begin()
    bench.train()
    bench.it.evaluated(evaluation(8, 10, 2.0))
    taken(bench.ctx)
    bench.it.lose_model()
    assert bench.begin() == []


def test_an_evaluation_that_ends_twice_counts_the_first_time(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.it.evaluated(evaluation(8, 10, 2.0))
    bench.ctx.now += bench.ctx.settings.report_after / 2
    bench.it.evaluated(evaluation(7, 10, 2.0))
    (submit,) = sent(bench.collect(1, "ben"), Submit)
    assert submit.evaluation == evaluation(8, 10, 2.0)
    reports = sent(bench.advance(bench.ctx.settings.report_after / 2), Report)
    assert [report.evaluation for report in reports] == [evaluation(8, 10, 2.0)] * 2


def test_a_failed_evaluation_keeps_nobody_from_the_round(bench: Bench) -> None:
    bench.begin()
    bench.it.fail_evaluation()
    bench.collect(1, "ben")
    assert sent(bench.train(), Submit)[0].evaluation is None


def test_a_member_that_cannot_train_says_why(bench: Bench) -> None:
    bench.begin()
    bench.collect(1, "ben")
    bench.it.decline("its training failed: out of memory")
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    (submit,) = sent(effects, Submit)
    assert (submit.update, submit.declined) == (None, "its training failed: out of memory")


def test_a_leaving_member_declines_instead_of_training(bench: Bench) -> None:
    bench.collect(1, "ben")
    effects = bench.begin(leaving=True)
    assert of_kind(effects, Train) == []
    assert [submit.declined for submit in sent(effects, Submit)] == ["it is leaving"]


def test_a_commit_ends_the_training_of_its_round(bench: Bench) -> None:
    bench.begin()
    bench.it.close()
    assert of_kind(taken(bench.ctx), StopTraining)
    bench.it.close()
    assert taken(bench.ctx) == []


def test_progress_counts_for_the_open_round_only(bench: Bench) -> None:
    bench.begin()
    bench.it.progressed(inputs.TrainProgress(training(bench.chain, 2, bench.ledger.model), 3, 10, 20.0))
    bench.it.progressed(inputs.TrainProgress(training(bench.chain, 1, bench.ledger.model), 9, 10, 99.0))
    assert (bench.it.progress, bench.it.predicted) == (0.3, 20.0)


def test_the_aggregators_new_link_is_used_at_once(bench: Bench) -> None:
    bench.begin()
    bench.train()
    bench.collect(1, "ben")
    bench.it.linked(node("cleo"))
    assert taken(bench.ctx) == []
    bench.it.linked(node("ben"))
    assert sent(taken(bench.ctx), Submit)


def test_the_update_is_pinned(bench: Bench) -> None:
    assert bench.it.pinned() == set()
    bench.begin()
    bench.train()
    assert bench.it.pinned() == {update("ada", 2).digest}
    assert model("anything else") not in bench.it.pinned()


@pytest.mark.parametrize(("has", "counts"), [(900, 900), (5000, 1000)])
def test_a_device_with_more_data_than_it_stated_weighs_as_much_as_it_stated(
    bench: Bench, has: int, counts: int
) -> None:
    result = result_of("ada", 2)
    part = msgspec.structs.replace(result.part, examples=has)
    bench.it.trained(msgspec.structs.replace(result, part=part))
    assert bench.it.update is not None
    assert bench.it.update.examples == counts


# --- state, control and memory ----------------------------------------------------------------------------------


def test_a_training_begins_with_the_state_and_with_what_the_device_remembers() -> None:
    bench = Bench(spec=STATEFUL)
    bench.ledger.memory = model("my last update")
    effects = bench.begin()
    (train,), (evaluate,) = of_kind(effects, Train), of_kind(effects, Evaluate)
    assert train.job.state == bench.ledger.blobs.state != ""
    assert train.job.members == 3
    assert train.job.memory == evaluate.job.memory == model("my last update")


def test_a_control_is_announced_and_pinned_with_its_update() -> None:
    bench = Bench(spec=STATEFUL)
    bench.begin()
    bench.collect(1, "ben")
    bench.it.trained(msgspec.structs.replace(result_of("ada", 2), control=model("control")))
    blobs = UpdateBlobs(update("ada", 2).digest, model("control"))
    (submit,) = sent(taken(bench.ctx), Submit)
    assert known(submit.update).blobs == blobs
    assert bench.it.pinned() == set(blobs.digests)
