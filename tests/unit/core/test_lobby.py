from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.agreement import agree
from p2pfl.cards import Agreement, DataCard
from p2pfl.core.abandoned_runs import MODEL_TRIES
from p2pfl.core.context import Context
from p2pfl.core.effects import AnyEffect, Create, Describe, Exit, Fetch, ReadSchema, fetch_record
from p2pfl.core.fitting import MAX_COMPARED
from p2pfl.core.founding import held_start
from p2pfl.core.inputs import BlobFailed, Created, Described, SchemaRead
from p2pfl.core.lobby import (
    MAX_DECLINED,
    MAX_DECLINED_OF_PEER,
    OFFER_PATIENCE,
    Lobby,
)
from p2pfl.disclosure import PRIVATE_REASON
from p2pfl.events import Notice
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    MAX_CHOICE,
    Commit,
    Decline,
    Genesis,
    GivenOption,
    Origin,
    Provenance,
    RecordBlobs,
    RecordsRequest,
    record_digest,
)
from p2pfl.schema import FrozenTensors, TensorSpec, canonical, frozen_mark, layout_of
from p2pfl.spec import RunSpec, from_options, partitions_of, to_options, with_options
from tests.support.core import chain_of, context, link, of_kind, options, receivers, sent, status, taken, told
from tests.support.known import known
from tests.support.records import (
    AGREEMENT,
    CARD,
    LAYOUT,
    MEDIAN,
    NAMES,
    SCHEMA,
    SPEC,
    STATEFUL,
    digest,
    genesis,
    node,
)

# --- founding ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ctx() -> Any:
    made = context("ada")
    for name in NAMES[1:3]:
        link(made, name, status())
    return made


def described(ctx: Context, schema: tuple[TensorSpec, ...] = SCHEMA, spec: RunSpec | None = None) -> Any:
    """The worker's answer about an offered run of *spec*; without it, about this node's own task."""
    if spec is None:
        return Described(ctx.options.spec, None, None, CARD)
    return Described(spec, AGREEMENT, schema, CARD)


def ready_lobby(ctx: Context) -> Lobby:
    lobby = Lobby(ctx, steady_since=ctx.now)
    lobby.describe(described(ctx))
    return lobby


def found(lobby: Lobby) -> Genesis | None:
    peers = list(lobby.ctx.peers.values())
    return lobby.found(peers, [])


def test_a_run_is_founded_with_one_part_of_the_data_for_each_member(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    assert found(lobby) is None
    ctx.now += ctx.settings.steady
    assert found(lobby) is None
    (create,) = of_kind(taken(ctx), Create)
    assert partitions_of(create.spec.task) == 3
    lobby.created = Created(create.spec, AGREEMENT, digest("initial"), SCHEMA)
    record_0 = known(found(lobby))
    assert [entry.name for entry in record_0.roster] == ["ada", "ben", "cleo"]
    assert (record_0.spec, record_0.model, record_0.nonce) == (create.spec, digest("initial"), "ab" * 16)


def test_a_run_of_private_data_has_no_parts_and_a_card_of_another_task_founds_none(ctx: Context) -> None:
    own = {"model", "partition", "partitions", "task", "kind"}
    common = {name: value for name, value in to_options(SPEC).items() if name not in own}
    ctx.options = options(spec=from_options(kind="pictures", model="lenet", **common))
    photos = msgspec.structs.replace(CARD, task="pictures", input_shape=(1, 8, 8))
    lobby = Lobby(ctx, steady_since=ctx.now)
    lobby.describe(Described(ctx.options.spec, None, None, photos))
    ctx.now += ctx.settings.steady
    assert found(lobby) is None
    assert "has data for the task 'digits': start all devices for the same task" in lobby.told
    assert told(taken(ctx), events.Waiting)[-1].is_mismatch
    for peer in ctx.peers.values():
        peer.card = photos
    ctx.now += ctx.settings.steady
    assert found(lobby) is None
    (create,) = of_kind(taken(ctx), Create)
    assert create.spec == ctx.options.spec
    assert create.agreement.input_shape == (1, 8, 8)


OTHER = msgspec.structs.replace(CARD, labels=CARD.labels[:2])
"""A card of the same task whose classes do not fit."""


def mismatched(unfit: str, min_nodes: int = 3, names: tuple[str, ...] = NAMES[:4]) -> Lobby:
    """The lobby of ada, linked with *names*; the data of *unfit* do not fit, and as many nodes are needed."""
    ctx = context("ada", linked=[])
    ctx.options = options(min_nodes=min_nodes)
    for name in names[1:]:
        link(ctx, name, status(min_nodes=min_nodes)).card = OTHER if name in unfit.split() else CARD
    lobby = Lobby(ctx, steady_since=ctx.now)
    card = OTHER if "ada" in unfit.split() else CARD
    lobby.describe(Described(ctx.options.spec, None, None, card))
    for _ in range(2):
        found(lobby)
        ctx.now += ctx.settings.steady
    return lobby


def test_devices_that_fit_and_are_enough_found_the_run_without_the_one_that_does_not() -> None:
    lobby = mismatched("dan")
    found(lobby)
    found(lobby)
    effects = taken(lobby.ctx)
    (create,) = of_kind(effects, Create)
    (warning,) = told(effects, Notice)
    assert warning.level == "warning"
    assert warning.text.startswith("the data of dan do not fit those of ada: its data lack the classes")
    assert warning.text.endswith(". The others are enough, so the run begins without dan")
    lobby.created = Created(create.spec, create.agreement, digest("initial"), SCHEMA)
    assert [entry.name for entry in known(found(lobby)).roster] == ["ada", "ben", "cleo"]


@pytest.mark.parametrize(
    ("unfit", "min_nodes", "names"),
    [
        ("dan", 4, NAMES[:4]),  # all are needed
        ("cleo dan", 2, NAMES[:4]),  # neither half may found beside the other
        ("ada", 3, NAMES[:4]),  # this device is the one that does not fit
        ("dan", 2, tuple(NAMES[:4]) + tuple(f"n{index}" for index in range(MAX_COMPARED))),
    ],
    ids=["too few", "halves", "itself", "too many"],
)
def test_a_mismatch_is_told_once_as_a_warning_and_nothing_is_founded(
    unfit: str, min_nodes: int, names: tuple[str, ...]
) -> None:
    lobby = mismatched(unfit, min_nodes, names)
    found(lobby)
    effects = taken(lobby.ctx)
    (waiting,) = told(effects, events.Waiting)
    assert (waiting.is_mismatch, waiting.reason.startswith("the data of ")) == (True, True)
    assert not of_kind(effects, Create)


def test_a_target_that_no_device_measures_is_told_and_nobody_is_left_out(ctx: Context) -> None:
    ctx.options = options(spec=with_options(SPEC, until={"metric": "dice", "value": 0.9}))
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += ctx.settings.steady
    assert found(lobby) is None
    (waiting,) = told(taken(ctx), events.Waiting)
    assert (waiting.is_mismatch, "dice" in waiting.reason) == (True, True)


def test_the_largest_number_wanted_by_a_device_that_fits_counts() -> None:
    lobby = mismatched("dan", min_nodes=2)
    assert of_kind(taken(lobby.ctx), Create)
    peer = lobby.ctx.peers[node("dan")]
    peer.status = status(min_nodes=4)
    assert lobby._present(list(lobby.ctx.peers.values()), []).needed == 2
    lobby.ctx.peers[node("ben")].status = status(min_nodes=4)
    assert lobby._present(list(lobby.ctx.peers.values()), []).apart


def test_the_number_of_parts_can_be_asked_for(ctx: Context) -> None:
    ctx.options = options(partitions=7)
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += ctx.settings.steady
    found(lobby)
    assert partitions_of(of_kind(taken(ctx), Create)[0].spec.task) == 7


def test_a_node_that_makes_the_initial_model_waits_for_nothing_else(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    found(lobby)
    assert lobby.told == "everybody is here, the run starts in a moment"
    ctx.now += ctx.settings.steady
    found(lobby)
    assert lobby.told == ""


def test_the_initial_model_is_made_once(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += ctx.settings.steady
    found(lobby)
    found(lobby)
    assert len(of_kind(taken(ctx), Create)) == 1


@pytest.mark.parametrize("links", [1, 2])
def test_a_lower_id_founds_only_if_it_is_linked_with_as_many_as_are_needed(links: int) -> None:
    lowest, *others = sorted(NAMES[:3], key=node)
    ctx = context(others[0], linked=[])
    link(ctx, lowest, status(links=links))
    link(ctx, others[1], status())
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += 3.0
    found(lobby)
    assert len(of_kind(taken(ctx), Create)) == (1 if links == 1 else 0)


def test_a_newcomer_starts_the_steady_time_again(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += 1.5
    link(ctx, "dan", status())
    found(lobby)
    ctx.now += 1.5
    assert found(lobby) is None
    assert of_kind(taken(ctx), Create) == []


def test_what_is_waited_for_is_told_when_it_changes(ctx: Context) -> None:
    ctx.options = options(min_nodes=4)
    lobby = ready_lobby(ctx)
    found(lobby)
    found(lobby)
    assert [event.reason for event in told(taken(ctx), events.Waiting)] == ["3 of 4 nodes are here"]


def test_nobody_waits_for_a_steady_moment_where_all_see_all_that_they_wait_for(ctx: Context) -> None:
    for peer in ctx.peers.values():
        peer.status = status(complete=True)
    lobby = ready_lobby(ctx)
    assert found(lobby) is None
    assert len(of_kind(taken(ctx), Create)) == 1


@pytest.mark.parametrize(("changes", "listed"), [({"complete": False}, 3), ({"complete": True}, 4)])
def test_where_a_node_misses_one_that_it_waits_for_the_set_must_be_steady(
    ctx: Context, changes: dict[str, bool], listed: int
) -> None:
    ctx.options = options(listed=listed)
    for peer in ctx.peers.values():
        peer.status = status(complete=True)
    ctx.peers[node("cleo")].status = status(**changes)
    lobby = ready_lobby(ctx)
    found(lobby)
    assert not of_kind(taken(ctx), Create)
    ctx.now += ctx.settings.steady
    found(lobby)
    assert of_kind(taken(ctx), Create)


def test_a_node_that_waits_for_nobody_in_particular_is_never_complete(ctx: Context) -> None:
    assert Lobby(ctx).is_complete
    ctx.options = options(min_nodes=1)
    assert not Lobby(ctx).is_complete
    ctx.options = options(min_nodes=2, is_open=True)
    assert not Lobby(ctx).is_complete
    ctx.options = options(min_nodes=1, listed=2)
    assert Lobby(ctx).is_complete


ROUNDS = (GivenOption("rounds", "5"),)


def test_a_node_without_options_leaves_the_founding_to_one_with_them_and_says_what_will_hold(
    ctx: Context,
) -> None:
    ctx.peers[node("ben")].status = status(given=ROUNDS)
    lobby = ready_lobby(ctx)
    ctx.now += ctx.settings.steady
    found(lobby)
    ctx.now += ctx.settings.steady
    found(lobby)
    effects = taken(ctx)
    assert not of_kind(effects, Create)
    waiting = told(effects, events.Waiting)[-1]
    assert (waiting.options, waiting.options_of, waiting.is_mismatch) == ("--rounds 5", "ben", False)
    notice = Notice("info", "the run will have --rounds 5, of ben")
    assert told(effects, Notice) == [notice], "once, whatever else is waited for"
    lobby.ctx.peers[node("cleo")].status = status(choice=1)
    found(lobby)
    assert told(taken(ctx), Notice) == [Notice("info", "the run will have the default options, of cleo")]


def test_options_that_differ_are_told_as_something_that_people_must_settle(ctx: Context) -> None:
    ctx.options = options(given=frozenset({"rounds"}))
    ctx.peers[node("ben")].status = status(given=ROUNDS)
    lobby = ready_lobby(ctx)
    found(lobby)
    (waiting,) = told(taken(ctx), events.Waiting)
    assert waiting.reason.startswith("--rounds is 10 on ada and 5 on ben; run `p2pfl start` on")
    assert (waiting.options_of, waiting.is_mismatch) == ("", True)


def test_a_start_gives_this_devices_options_a_higher_number_than_any_other(ctx: Context) -> None:
    ctx.peers[node("ben")].status = status(given=ROUNDS, choice=6)
    ctx.peers[node("cleo")].status = None
    lobby = ready_lobby(ctx)
    lobby.go_ahead()
    assert lobby.choice == 7
    lobby.steady_since -= 60.0
    ctx.peers[node("cleo")].status = status()
    found(lobby)
    ctx.now += 60.0
    found(lobby)
    assert of_kind(taken(ctx), Create)
    lobby.choice = MAX_CHOICE
    lobby.go_ahead()
    assert lobby.choice == MAX_CHOICE


def test_the_options_of_a_device_that_is_left_out_hold_for_nobody() -> None:
    lobby = mismatched("dan")
    lobby.ctx.peers[node("dan")].status = status(given=ROUNDS, complete=True)
    assert lobby._present(list(lobby.ctx.peers.values()), []).holding.founders is None
    lobby.ctx.peers[node("cleo")].status = status(given=ROUNDS)
    assert lobby._present(list(lobby.ctx.peers.values()), []).holding.of == "cleo"


def test_an_operator_holds_the_start_until_it_says_go(ctx: Context) -> None:
    ctx.options = options(wait=True)
    lobby = ready_lobby(ctx)
    ctx.now += 60.0
    found(lobby)
    waiting = told(taken(ctx), events.Waiting)[-1]
    assert (waiting.reason, waiting.held_by) == (held_start("ada"), "ada")
    lobby.gone_ahead = True
    ctx.now += 60.0
    found(lobby)
    assert of_kind(taken(ctx), Create)


# --- taking a run -----------------------------------------------------------------------------------------------


def test_a_member_takes_record_0_once_the_schema_matches_and_the_model_is_here(ctx: Context) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    lobby.offer(node("ben"), record_0, ())
    assert of_kind(taken(ctx), Describe) == [Describe(record_0.spec, record_0.agreement)]
    assert lobby.describe(described(ctx, spec=record_0.spec)) is None
    (fetch,) = of_kind(taken(ctx), Fetch)
    assert (fetch.digest, fetch.sources) == (record_0.model, (node("ben"), node("cleo")))
    assert known(lobby.blob_ready((record_0.model,))).run == record_digest(record_0)


def test_a_late_joiner_takes_the_run_without_its_first_model(ctx: Any) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis(names=("ben", "cleo"))
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    assert known(lobby.describe(described(ctx, spec=record_0.spec))).run == record_digest(record_0)
    assert taken(ctx) == []


def test_a_member_that_comes_late_takes_the_commits_without_the_first_model(ctx: Context) -> None:
    chain = chain_of(*NAMES[:3], rounds=2)
    lobby = ready_lobby(ctx)
    lobby.offer(node("ben"), chain.genesis, tuple(chain.commits))
    offered = known(lobby.describe(described(ctx, spec=chain.genesis.spec)))
    assert offered.commits == tuple(chain.commits)


def test_another_schema_is_declined_naming_the_first_tensor_that_differs(ctx: Context) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    mine = canonical([TensorSpec("weight", "F32", (2, 4)), TensorSpec("steps", "I64", ())])
    assert lobby.describe(described(ctx, mine, spec=record_0.spec)) is None
    (read,) = taken(ctx)
    assert read == ReadSchema(record_0.model, record_0.layout, (node("ben"), node("cleo")))
    lobby.schema_read(SchemaRead(LAYOUT, SCHEMA))
    effects = taken(ctx)
    assert of_kind(effects, Exit) == []
    reason = sent(effects, Decline)[0].reason
    assert "weight F32[2,3] there is weight F32[2,4] here" in reason
    assert receivers(effects, Decline) == [node("ben"), node("cleo")]
    (notice,) = told(effects, events.Notice)
    assert notice.level == "error"
    assert "of ben: its model differs" in notice.text


# --- frozen tensors -----------------------------------------------------------------------------------------

FROZEN = FrozenTensors("cd" * 32, LAYOUT)
MINE, THEIRS = (
    canonical([*SCHEMA, frozen_mark(FrozenTensors(digits * 32, LAYOUT))]) for digits in ("ab", "cd")
)
"""The models of this device and of the run, which differ in the values of their frozen tensors."""


def offered_with_other_frozen_tensors(
    ctx: Context, commits: tuple[Commit, ...] = ()
) -> tuple[Lobby, Genesis]:
    """Offer a run, and pull its frozen tensors."""
    lobby = ready_lobby(ctx)
    record_0 = msgspec.structs.replace(genesis(), layout=layout_of(THEIRS))
    lobby.offer(node("ben"), record_0, commits)
    lobby.describe(described(ctx, MINE, spec=record_0.spec))
    taken(ctx)
    lobby.schema_read(SchemaRead(record_0.layout, THEIRS))
    lobby.schema_read(SchemaRead(record_0.layout, THEIRS))
    (fetch,) = taken(ctx)
    assert fetch == Fetch(FROZEN.digest, LAYOUT, (node("ben"), node("cleo")), is_frozen=True)
    return lobby, record_0


def test_frozen_tensors_that_differ_are_pulled_and_then_the_first_model(ctx: Context) -> None:
    lobby, record_0 = offered_with_other_frozen_tensors(ctx)
    assert lobby.blob_ready(("ef" * 32,)) is None
    assert taken(ctx) == []
    assert lobby.blob_ready((FROZEN.digest,)) is None
    (fetch,) = taken(ctx)
    assert fetch == fetch_record(record_0.blobs, record_0, (node("ben"), node("cleo")))
    offered = known(lobby.blob_ready(record_0.blobs.digests))
    assert known(offered.described).schema == THEIRS


def test_a_member_that_comes_late_pulls_the_frozen_tensors_alone(ctx: Context) -> None:
    lobby, _ = offered_with_other_frozen_tensors(ctx, tuple(chain_of(*NAMES[:3], rounds=2).commits))
    offered = known(lobby.blob_ready((FROZEN.digest,)))
    assert known(offered.described).schema == THEIRS
    assert taken(ctx) == []


def test_a_run_whose_frozen_tensors_nobody_has_is_declined_for_a_rest(ctx: Context) -> None:
    lobby, record_0 = offered_with_other_frozen_tensors(ctx)
    lobby.blob_failed(BlobFailed(FROZEN.digest, "nobody has it", invalid=False))
    assert lobby.declines(record_digest(record_0))
    reason = sent(taken(ctx), Decline)[0].reason
    assert reason == (
        "its frozen parameters differ from those of the run, which could not be pulled: nobody has it"
    )


def test_the_schema_of_another_model_than_the_offered_one_declines_nothing(ctx: Context) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    lobby.offer(node("ben"), record_0, ())
    mine = canonical([TensorSpec("weight", "F32", (2, 4)), TensorSpec("steps", "I64", ())])
    lobby.describe(described(ctx, mine, spec=record_0.spec))
    taken(ctx)
    lobby.schema_read(SchemaRead(layout_of(mine), mine))
    assert taken(ctx) == []
    assert lobby.offered is not None


def decline(lobby: Lobby, source: str = "ben", **changes: str) -> Genesis:
    """Let the lobby be offered a run that its worker knows another model for."""
    record_0 = genesis(**changes)
    lobby.offer(node(source), record_0, ())
    lobby.fail("no such task", Describe(record_0.spec, record_0.agreement))
    return record_0


def test_a_run_that_cannot_be_described_is_declined_and_the_node_stays(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    record_0 = decline(lobby)
    effects = taken(ctx)
    assert of_kind(effects, Exit) == []
    assert sent(effects, Decline)[0] == Decline(record_digest(record_0), "no such task")
    assert lobby.offered is None


def test_a_declined_run_is_looked_at_again_after_a_rest_and_waited_for_in_words(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    record_0 = decline(lobby)
    taken(ctx)
    lobby.offer(node("ben"), record_0, ())
    assert of_kind(taken(ctx), Describe) == []
    peer = link(ctx, "ben", status(run=record_digest(record_0)))
    assert lobby.found([], [peer]) is None
    assert "of ben: no such task" in told(taken(ctx), events.Waiting)[0].reason
    ctx.now += ctx.settings.declined_rest
    lobby.offer(node("ben"), record_0, ())
    assert of_kind(taken(ctx), Describe) == [Describe(record_0.spec, record_0.agreement)]


def test_a_peer_that_offers_one_unfit_run_after_the_other_is_not_listened_to_for_a_while(
    ctx: Context,
) -> None:
    lobby = ready_lobby(ctx)
    for number in range(MAX_DECLINED_OF_PEER + 5):
        decline(lobby, model=digest(f"model {number}"))
    assert len(of_kind(taken(ctx), Describe)) == MAX_DECLINED_OF_PEER
    lobby.offer(node("cleo"), genesis(), ())
    assert len(of_kind(taken(ctx), Describe)) == 1


def test_declined_runs_are_remembered_in_bounded_number(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    for number in range(2 * MAX_DECLINED):
        decline(lobby, f"peer {number}", model=digest(f"model {number}"))
    assert len(lobby.declined) == MAX_DECLINED


def test_a_peer_whose_first_models_do_not_come_is_not_listened_to_for_a_while_either(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    for number in range(MAX_DECLINED_OF_PEER + 5):
        record_0 = genesis(model=digest(f"model {number}"))
        lobby.offer(node("ben"), record_0, ())
        lobby.describe(described(ctx, spec=record_0.spec))
        lobby.blob_failed(BlobFailed(record_0.model, "nobody has it", invalid=False))
    assert len(of_kind(taken(ctx), Fetch)) == MAX_DECLINED_OF_PEER
    assert len(lobby.tries) == MAX_DECLINED_OF_PEER


def test_an_unfit_run_is_not_joined_after_its_commits_either_one_without_its_first_model_is(
    ctx: Context,
) -> None:
    lobby = ready_lobby(ctx)
    unfit, bare = decline(lobby), genesis(model=digest("another"))
    lobby.offer(node("ben"), bare, ())
    lobby.describe(described(ctx, spec=bare.spec))
    lobby.blob_failed(BlobFailed(bare.model, "an element is not finite", invalid=True))
    for record_0, begun in ((unfit, "no such task"), (bare, "")):
        run = record_digest(record_0)
        assert lobby.turns_down(status(run=run, round=0))
        assert lobby.turns_down(status(run=run, round=1)) == begun
    assert lobby.turns_down(status(run=digest("a third"), round=0)) == ""


def test_one_offer_is_looked_at_at_a_time_unless_it_takes_too_long(ctx: Context) -> None:
    lobby, other = ready_lobby(ctx), genesis(model=digest("another"))
    lobby.offer(node("ben"), genesis(), ())
    taken(ctx)
    lobby.offer(node("cleo"), other, ())
    assert of_kind(taken(ctx), Describe) == []
    ctx.now += OFFER_PATIENCE
    lobby.offer(node("cleo"), other, ())
    assert of_kind(taken(ctx), Describe) == [Describe(other.spec, other.agreement)]


def test_another_schema_is_declined_also_where_the_runs_cannot_be_read(ctx: Context) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    lobby.offer(node("ben"), record_0, ())
    lobby.describe(described(ctx, SCHEMA[:1], spec=record_0.spec))
    taken(ctx)
    lobby.schema_read(SchemaRead(LAYOUT, None, "nobody has it"))
    effects = taken(ctx)
    assert of_kind(effects, Exit) == []
    assert "the different tensor is unknown (nobody has it)" in sent(effects, Decline)[0].reason


def test_the_schema_of_a_run_that_is_not_offered_any_more_is_nobodys_concern(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    lobby.schema_read(SchemaRead(LAYOUT, SCHEMA))
    assert taken(ctx) == []


def test_a_run_is_asked_for_once_in_a_while(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    lobby.ask(node("ben"), digest("run"))
    lobby.ask(node("ben"), digest("run"))
    assert sent(taken(ctx), RecordsRequest) == [RecordsRequest(digest("run"), -1)]


def test_an_offer_that_cannot_be_pulled_is_forgotten_and_may_come_again(ctx: Context) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    lobby.offer(node("ben"), record_0, ())
    lobby.describe(described(ctx, spec=record_0.spec))
    lobby.blob_failed(BlobFailed(record_0.model, "nobody has it", invalid=False))
    taken(ctx)
    lobby.offer(node("cleo"), record_0, ())
    assert of_kind(taken(ctx), Describe)


def test_a_task_that_cannot_be_described_ends_the_node_with_the_reason(ctx: Context) -> None:
    Lobby(ctx).fail("the task digits needs scikit-learn")
    (ends,) = of_kind(taken(ctx), Exit)
    assert (ends.code, ends.reason) == (ExitCode.UNFIT, "the task digits needs scikit-learn")


# --- runs that did not begin ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("invalid", "what"), [(True, "is of no use"), (False, "could not be pulled")])
def test_a_first_model_that_does_not_come_is_declined_and_the_device_stays(
    ctx: Context, invalid: bool, what: str
) -> None:
    lobby, record_0 = ready_lobby(ctx), genesis()
    run = record_digest(record_0)
    effects: list[AnyEffect] = []
    for _ in range(1 if invalid else MODEL_TRIES):
        assert sent(effects, Decline) == []
        lobby.offer(node("ben"), record_0, ())
        lobby.describe(described(ctx, spec=record_0.spec))
        lobby.blob_failed(BlobFailed(record_0.model, "nobody has it", invalid=invalid))
        effects = taken(ctx)
    assert {one.reason for one in sent(effects, Decline)} == {f"its first model {what}: nobody has it"}
    assert of_kind(effects, Exit) == []
    assert lobby.abandoned_runs.is_hopeless(run)


OTHER_ORDER = DataCard("digits", 1000, CARD.labels[::-1])


def test_a_run_whose_data_are_others_is_declined_without_pulling_or_training_anything(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    record_0 = genesis()
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    assert lobby.describe(Described(record_0.spec, AGREEMENT, SCHEMA, OTHER_ORDER)) is None
    effects = taken(ctx)
    assert of_kind(effects, Fetch) == []
    reason = sent(effects, Decline)[0].reason
    assert reason == "its classes come in another order: class 0 is '9' here and '0' in the run"
    assert lobby.declines(record_digest(record_0))


def test_nothing_is_founded_on_data_that_do_not_go_together(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    ctx.peers[node("cleo")].card = OTHER_ORDER
    ctx.now += 60
    assert found(lobby) is None
    (waiting,) = told(taken(ctx), events.Waiting)
    assert waiting.reason.startswith(
        "the data of cleo do not fit those of ada: its classes come in another order"
    )


def test_a_peer_that_has_not_described_its_data_counts_as_loading(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    ctx.peers[node("cleo")].card = None
    found(lobby)
    assert of_kind(taken(ctx), Create) == []


def test_record_0_has_the_agreement_what_each_card_stated_and_where_the_model_came_from(ctx: Context) -> None:
    lobby = ready_lobby(ctx)
    ctx.options = msgspec.structs.replace(ctx.options, software="9.9")
    ctx.peers[node("cleo")].card = DataCard("mnist", 5, ())
    found(lobby)
    ctx.now += 60
    found(lobby)
    (create,) = of_kind(taken(ctx), Create)
    lobby.created = Created(create.spec, AGREEMENT, digest("initial"), SCHEMA)
    record_0 = known(found(lobby))
    assert record_0.agreement == AGREEMENT
    assert [entry.examples for entry in record_0.roster] == [CARD.examples] * 3
    assert record_0.provenance == Provenance("9.9", "initialised")
    assert record_0.blobs == RecordBlobs(digest("initial"))


def test_a_failure_with_a_task_that_is_neither_offered_nor_its_own_is_nobodys_concern(ctx: Context) -> None:
    other = with_options(ctx.options.spec, epochs=7)
    Lobby(ctx).fail("no such data", Describe(other))
    assert taken(ctx) == []


def test_peers_are_not_told_why_private_data_do_not_allow_a_run(ctx: Context) -> None:
    own = {"model", "partition", "partitions", "task", "kind"}
    common = {name: value for name, value in to_options(SPEC).items() if name not in own}
    record_0 = msgspec.structs.replace(genesis(), spec=from_options(kind="file", task="mine", **common))
    lobby = Lobby(ctx)
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    lobby.fail("the cell 'Jane Doe' is no number", Describe(record_0.spec, record_0.agreement))
    effects = taken(ctx)
    assert {decline.reason for decline in sent(effects, Decline)} == {PRIVATE_REASON}
    assert "Jane Doe" in told(effects, Notice)[0].text


def test_cards_are_merged_once(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    lobby = ready_lobby(ctx)
    merged: list[int] = []

    def merge(spec: RunSpec, cards: Mapping[str, DataCard]) -> tuple[Agreement | None, str]:
        merged.append(1)
        return agree(spec, cards)

    monkeypatch.setattr("p2pfl.core.lobby.agree", merge)
    for _ in range(3):
        found(lobby)
    assert len(merged) == 1


def test_the_state_of_a_continued_run_is_pulled_with_its_first_model(ctx: Context) -> None:
    origin = Origin(digest("run"), 4, digest("record"), 4)
    record_0 = msgspec.structs.replace(
        genesis(), spec=STATEFUL, blobs=RecordBlobs(digest("model"), digest("state")), continues=(origin,)
    )
    lobby = ready_lobby(ctx)
    lobby.offer(node("ben"), record_0, ())
    lobby.describe(described(ctx, spec=STATEFUL))
    (fetch,) = of_kind(taken(ctx), Fetch)
    assert fetch.digests == record_0.blobs.digests
    assert lobby.blob_ready((record_0.model,)) is None
    assert known(lobby.blob_ready(record_0.blobs.digests)).genesis == record_0


def test_a_run_is_not_founded_by_fewer_nodes_than_its_strategy_needs(ctx: Context) -> None:
    ctx.options = msgspec.structs.replace(ctx.options, min_nodes=1, spec=MEDIAN)
    ctx.peers.pop(node("cleo"))
    lobby = Lobby(ctx)
    lobby.describe(described(ctx, spec=MEDIAN))
    found(lobby)
    assert told(taken(ctx), events.Waiting)[-1].reason == "2 of 3 nodes are here"
