"""Decides which messages of a round count: signed votes, by members, for ballots the candidate may use.

Other messages are ignored. A message that only a faulty or hostile sender can have sent is reported to
people.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfl.core.catch_up import RoundMessage
from p2pfl.core.context import Context
from p2pfl.core.effects import SaveSeen
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import FIRST_ATTEMPT, MAX_ATTEMPT_GAP
from p2pfl.core.roster import contains
from p2pfl.messages import Accept, Accepted, Collect, Member, Prepare, Promise, Submit
from p2pfl.proofs import cast_of


def takes_vote(ctx: Context, ledger: Ledger, member: Member, message: Promise | Accepted) -> bool:
    """Whether *message* carries a valid vote of *member*. A late vote is remembered too."""
    cast = cast_of(message)
    if cast.vote.member != member or not cast.is_valid(ctx.signer.verify):
        name = ctx.name_of(member.node)
        ctx.complain(member.node, "unsigned", f"{name} sent a vote it has not signed: it does not count")
        return False
    if not ctx.takes_vote(cast):
        return False
    if message.round <= ledger.round:
        ctx.do(SaveSeen((cast,), at_once=False))
    return True


def is_of_member(ctx: Context, ledger: Ledger, member: Member, message: RoundMessage) -> bool:
    """Whether *member*, with its journal, is in the open roster, and may send such a message.

    One that is kept out only votes, as long as it is in the roster.
    """
    if contains(ledger.roster, member):
        return not (isinstance(message, Prepare | Collect | Accept | Submit) and ctx.exclusion(member.node))
    if isinstance(message, Prepare | Collect | Accept):
        name = ctx.name_of(member.node)
        text = (
            f"{name} runs for aggregator of record {message.round}, but is no member of the run with "
            "its present data directory: it is ignored"
        )
        ctx.complain(member.node, "no member", text)
    return False


def may_run_for_election(
    ctx: Context, member: Member, message: Prepare | Accept | Collect, order: Sequence[str], highest: int
) -> bool:
    """Whether *member* may use the ballot of *message* in the open round.

    A member runs only under its own id, uses only its own lowest ballot, and must not skip many attempts.
    *order* is the roster by rank; *highest* is the highest attempt known here.
    """
    ballot = message.ballot
    if ballot.node != member.node:
        return False
    if ballot.attempt <= FIRST_ATTEMPT:
        return ctx.policy.lowest(order, member.node)
    if ballot.attempt > highest + MAX_ATTEMPT_GAP:
        name = ctx.name_of(member.node)
        text = (
            f"{name} runs with attempt {ballot.attempt} for record {message.round}, far above "
            f"{highest}, the highest attempt seen here: it is ignored"
        )
        ctx.complain(member.node, "jump", text)
        return False
    return True
