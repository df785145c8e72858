import msgspec
import pytest

from p2pfl import events
from p2pfl.core.effects import Create, Describe, Exit, Fetch
from p2pfl.core.foundings import MODEL_TRIES
from p2pfl.core.inputs import Created, Described
from p2pfl.core.lobby import UNFIT_EXIT, Lobby, Present, decide_founding, differs, prefers
from p2pfl.messages import Ask, Decline, record_digest
from p2pfl.schema import TensorSpec, canonical
from tests.support.core import chain_of, context, link, of_kind, options, receivers, sent, status, taken, told
from tests.support.records import NAMES, SCHEMA, digest, founding, node

BASE = Present(
    me="a",
    here=frozenset("abc"),
    loading=0,
    needed=3,
    holder="",
    elsewhere=(),
    steady_since=98.0,
    steady=2.0,
    now=100.0,
)


def decide(**changes):
    return decide_founding(msgspec.structs.replace(BASE, **changes))


# --- who founds, and when ---------------------------------------------------------------------------------------


def test_the_lowest_id_founds_when_everybody_is_here_and_the_set_is_steady():
    assert decide() == (True, "this node has the lowest id", None)


def test_others_wait_for_the_lowest_id():
    assert decide(me="b") == (False, "the node with the lowest id founds the run", None)


def test_who_does_not_reach_enough_nodes_itself_does_not_found():
    assert decide(me="b", cut_off=frozenset("a")) == (True, "this node has the lowest id", None)
    assert not decide(me="c", cut_off=frozenset("a"))[0]
    assert decide(me="b", cut_off=frozenset("abc"))[0], "this node reaches them: it has counted"


def test_the_set_must_be_steady():
    assert decide(now=99.0) == (False, "everybody is here, the run starts in a moment", 100.0)


def test_the_largest_number_wanted_counts():
    assert decide(needed=5) == (False, "3 of 5 nodes are here", None)


def test_somebody_who_waits_holds_the_start_and_is_named():
    assert decide(holder="ben") == (False, "held by ben (--wait)", None)


def test_nothing_is_founded_beside_a_run_that_is_not_followed():
    verdict, reason, _ = decide(elsewhere=("dan",))
    assert not verdict
    assert reason == "dan still in another run: start it with --new-run as well"


def test_a_worker_that_is_loading_is_waited_for_but_not_for_ever():
    assert decide(loading=1) == (False, "workers are loading", 118.0)
    assert decide(loading=1, now=118.0)[0]


def test_too_few_that_are_ready_do_not_found_however_long_they_wait():
    verdict, _, again = decide(here=frozenset("ab"), loading=1, now=999.0)
    assert (verdict, again) == (False, None)


@pytest.mark.parametrize(
    ("mine", "theirs", "their_round", "moves"),
    [("a", "b", 0, False), ("b", "a", 0, True), ("a", "b", 1, True), ("b", "a", 3, True)],
)
def test_of_two_runs_the_one_with_more_rounds_wins_and_then_the_smaller_id(mine, theirs, their_round, moves):
    assert prefers(mine, theirs, their_round) == moves


# --- founding ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ctx():
    made = context("ada")
    for name in NAMES[1:3]:
        link(made, name, status())
    return made


def described(ctx, schema=SCHEMA, spec=None):
    return Described(spec or ctx.options.spec, schema, 1000)


def ready_lobby(ctx):
    lobby = Lobby(ctx, steady_since=ctx.now)
    lobby.describe(described(ctx))
    return lobby


def found(lobby):
    peers = list(lobby.ctx.peers.values())
    return lobby.found(peers, [])


def test_a_run_is_founded_with_one_part_of_the_data_for_each_member(ctx):
    lobby = ready_lobby(ctx)
    assert found(lobby) is None
    ctx.now += ctx.settings.steady
    assert found(lobby) is None
    (create,) = of_kind(taken(ctx), Create)
    assert create.spec.partitions == 3
    lobby.created = Created(create.spec, digest("initial"))
    record_0 = found(lobby)
    assert [entry.name for entry in record_0.roster] == ["ada", "ben", "cleo"]
    assert (record_0.spec, record_0.model, record_0.nonce) == (create.spec, digest("initial"), "ab" * 16)


def test_the_number_of_parts_can_be_asked_for(ctx):
    ctx.options = options(partitions=7)
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += ctx.settings.steady
    found(lobby)
    assert of_kind(taken(ctx), Create)[0].spec.partitions == 7


def test_the_initial_model_is_made_once(ctx):
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += ctx.settings.steady
    found(lobby)
    found(lobby)
    assert len(of_kind(taken(ctx), Create)) == 1


@pytest.mark.parametrize("links", [1, 2])
def test_a_lower_id_founds_only_if_it_is_linked_with_as_many_as_are_needed(links):
    lowest, *others = sorted(NAMES[:3], key=node)
    ctx = context(others[0], linked=[])
    link(ctx, lowest, status(links=links))
    link(ctx, others[1], status())
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += 3.0
    found(lobby)
    assert len(of_kind(taken(ctx), Create)) == (1 if links == 1 else 0)


def test_a_newcomer_starts_the_steady_time_again(ctx):
    lobby = ready_lobby(ctx)
    found(lobby)
    ctx.now += 1.5
    link(ctx, "dan", status())
    found(lobby)
    ctx.now += 1.5
    assert found(lobby) is None
    assert of_kind(taken(ctx), Create) == []


def test_what_is_waited_for_is_told_when_it_changes(ctx):
    ctx.options = options(min_nodes=4)
    lobby = ready_lobby(ctx)
    found(lobby)
    found(lobby)
    assert [event.reason for event in told(taken(ctx), events.Waiting)] == ["3 of 4 nodes are here"]


def test_an_operator_holds_the_start_until_it_says_go(ctx):
    ctx.options = options(wait=True)
    lobby = ready_lobby(ctx)
    ctx.now += 60.0
    found(lobby)
    assert told(taken(ctx), events.Waiting)[-1].reason == "held by ada (--wait)"
    lobby.gone_ahead = True
    ctx.now += 60.0
    found(lobby)
    assert of_kind(taken(ctx), Create)


# --- taking a run -----------------------------------------------------------------------------------------------


def test_a_member_takes_record_0_once_the_schema_matches_and_the_model_is_here(ctx):
    lobby, record_0 = ready_lobby(ctx), founding()
    lobby.offer(node("ben"), record_0, ())
    assert of_kind(taken(ctx), Describe) == [Describe(record_0.spec)]
    assert lobby.describe(described(ctx, spec=record_0.spec)) is None
    (fetch,) = of_kind(taken(ctx), Fetch)
    assert (fetch.digest, fetch.sources) == (record_0.model, (node("ben"), node("cleo")))
    assert lobby.blob_ready(record_0.model).run == record_digest(record_0)


def test_a_late_joiner_takes_the_run_without_its_first_model(ctx):
    lobby, record_0 = ready_lobby(ctx), founding(names=("ben", "cleo"))
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    assert lobby.describe(described(ctx, spec=record_0.spec)).run == record_digest(record_0)
    assert taken(ctx) == []


def test_a_member_that_comes_late_takes_the_commits_without_the_first_model(ctx):
    chain = chain_of(*NAMES[:3], rounds=2)
    lobby = ready_lobby(ctx)
    lobby.offer(node("ben"), chain.founding, tuple(chain.commits))
    offered = lobby.describe(described(ctx, spec=chain.founding.spec))
    assert offered.commits == tuple(chain.commits)


def test_another_schema_is_declined_naming_the_first_tensor_that_differs(ctx):
    lobby, record_0 = ready_lobby(ctx), founding()
    lobby.offer(node("ben"), record_0, ())
    taken(ctx)
    mine = canonical([TensorSpec("weight", "F32", (2, 4)), TensorSpec("steps", "I64", ())])
    lobby.describe(described(ctx, mine, spec=record_0.spec))
    effects = taken(ctx)
    assert [effect.code for effect in of_kind(effects, Exit)] == [UNFIT_EXIT]
    reason = sent(effects, Decline)[0].reason
    assert "weight F32[2,3] there is weight F32[2,4] here" in reason
    assert receivers(effects, Decline) == [node("ben"), node("cleo")]


def test_a_run_is_asked_for_once_in_a_while(ctx):
    lobby = ready_lobby(ctx)
    lobby.ask(node("ben"), digest("run"))
    lobby.ask(node("ben"), digest("run"))
    assert sent(taken(ctx), Ask) == [Ask(digest("run"), -1)]


def test_an_offer_that_cannot_be_pulled_is_forgotten_and_may_come_again(ctx):
    lobby, record_0 = ready_lobby(ctx), founding()
    lobby.offer(node("ben"), record_0, ())
    lobby.describe(described(ctx, spec=record_0.spec))
    lobby.blob_failed(record_0.model, "nobody has it", invalid=False)
    taken(ctx)
    lobby.offer(node("cleo"), record_0, ())
    assert of_kind(taken(ctx), Describe)


def test_a_task_that_cannot_be_described_ends_the_node_with_the_reason(ctx):
    Lobby(ctx).fail("the task digits needs scikit-learn")
    (ends,) = of_kind(taken(ctx), Exit)
    assert (ends.code, ends.reason) == (UNFIT_EXIT, "the task digits needs scikit-learn")


def test_equal_schemas_do_not_differ():
    assert differs(SCHEMA, SCHEMA) is None


# --- foundings that came to nothing -----------------------------------------------------------------------------


def test_whose_founding_came_to_nothing_lets_the_next_one_try():
    assert decide(unable={"a": "pi cannot be dialled"})[0] is False
    assert decide(me="b", unable={"a": "pi cannot be dialled"}) == (True, "this node has the lowest id", None)


def test_when_nobody_could_found_a_run_the_reason_is_told_and_it_is_tried_again():
    unable = dict.fromkeys("abc", "an element is not finite")
    verdict, reason, again = decide(unable=unable, next_try=160.0)
    assert (verdict, again) == (False, 160.0)
    assert reason.endswith("an element is not finite")


@pytest.mark.parametrize(("invalid", "what"), [(True, "is of no use"), (False, "could not be pulled")])
def test_a_first_model_that_does_not_come_is_declined_and_the_device_stays(ctx, invalid, what):
    lobby, record_0 = ready_lobby(ctx), founding()
    run = record_digest(record_0)
    effects = []
    for _ in range(1 if invalid else MODEL_TRIES):
        assert sent(effects, Decline) == []
        lobby.offer(node("ben"), record_0, ())
        lobby.describe(described(ctx, spec=record_0.spec))
        lobby.blob_failed(record_0.model, "nobody has it", invalid=invalid)
        effects = taken(ctx)
    assert {one.reason for one in sent(effects, Decline)} == {f"its first model {what}: nobody has it"}
    assert of_kind(effects, Exit) == []
    assert lobby.foundings.is_hopeless(run)
