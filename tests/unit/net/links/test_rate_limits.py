from __future__ import annotations

import pytest

from p2pfl.messages import Decline, Offer, RecordsRequest
from p2pfl.net.links.rate_limits import (
    BYTE_LIMIT,
    DEFAULT_LIMIT,
    FRAME_LIMITS,
    LINK_LIMIT,
    MAX_REMEMBERED,
    LinkRateLimiter,
    Quotas,
    RateDecision,
    RateLimit,
    TokenBucket,
)
from p2pfl.wire.links import Peers, Ping

DECLINE, ASK = Decline("0" * 64, "no"), RecordsRequest("0" * 64, 1)
ACCEPT, DROP, DISCONNECT = RateDecision.ACCEPT, RateDecision.DROP, RateDecision.DISCONNECT


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.notices: list[str] = []
        self.quotas = Quotas(lambda: self.now, 30.0)

    def limiter(self, node: str = "bee") -> LinkRateLimiter:
        return LinkRateLimiter(node, self.quotas, self.notices.append)


@pytest.fixture
def world() -> World:
    return World()


def test_a_burst_is_accepted_then_dropped_then_the_peer_is_disconnected() -> None:
    bucket = TokenBucket(RateLimit(1, 3), 0.0)
    assert [bucket.take(1, 0.0) for _ in range(7)] == [ACCEPT] * 3 + [DROP] * 3 + [DISCONNECT]


def test_a_bucket_refills_with_time_up_to_its_burst() -> None:
    bucket = TokenBucket(RateLimit(2, 3), 0.0)
    assert [bucket.take(1, now) for now in (0, 0, 0, 0.5, 1.0)] == [ACCEPT] * 5
    assert [bucket.take(1, 100.0) for _ in range(4)] == [ACCEPT] * 3 + [DROP]


def test_a_steady_sender_within_the_rate_is_never_limited(world: World) -> None:
    limiter = world.limiter()
    for step in range(20_000):
        world.now = step / DEFAULT_LIMIT.rate
        assert limiter.check(Ping()) is ACCEPT


def test_each_kind_of_frame_has_its_own_limit(world: World) -> None:
    limiter, burst = world.limiter(), int(FRAME_LIMITS[Decline].burst)
    assert [limiter.check(DECLINE) for _ in range(burst + 1)] == [ACCEPT] * burst + [DROP]
    assert limiter.check(ASK) is ACCEPT
    assert limiter.check(Ping()) is ACCEPT
    assert world.notices == ["it sends more DECLINE than any node needs; the excess is ignored"]


def test_a_node_that_continues_is_banned_for_a_while_also_on_a_new_link(world: World) -> None:
    limiter = world.limiter()
    while limiter.check(DECLINE) is not DISCONNECT:
        assert world.quotas.ban_reason("bee") == ""
    assert "it sent too many DECLINE; it is banned for 30 s" in world.quotas.ban_reason("bee")
    assert world.limiter().check(DECLINE) is DISCONNECT
    assert world.quotas.ban_reason("cat") == ""
    world.now = 30.0
    assert world.quotas.ban_reason("bee") == ""
    assert world.limiter().check(DECLINE) is not DISCONNECT


def test_bytes_of_all_kinds_count_towards_one_limit(world: World) -> None:
    limiter = world.limiter()
    assert limiter.check(int(BYTE_LIMIT.burst)) is ACCEPT
    assert limiter.check(int(BYTE_LIMIT.burst)) is ACCEPT
    assert limiter.check(1) is DISCONNECT


def test_a_node_with_too_many_new_links_is_banned(world: World) -> None:
    for _ in range(int(LINK_LIMIT.burst)):
        world.quotas.count_link("bee")
    assert world.quotas.ban_reason("bee") == ""
    world.quotas.count_link("bee")
    assert "too many new links" in world.quotas.ban_reason("bee")


def test_a_founder_of_a_large_federation_stays_within_its_limits(world: World) -> None:
    limiter = world.limiter()
    assert {limiter.check(Peers(())) for _ in range(256)} == {ACCEPT}
    assert all(FRAME_LIMITS[kind].rate >= 1 for kind in (Offer, Decline))


def test_quotas_are_bounded_and_those_of_idle_nodes_are_dropped_first(world: World) -> None:
    world.quotas.ban("bee", "it is the first")
    for number in range(2 * MAX_REMEMBERED):
        world.now += 0.001
        world.quotas.of(f"node {number}")
        world.limiter("bee").check(Ping())
    assert len(world.quotas._nodes) == MAX_REMEMBERED
    assert world.quotas.ban_reason("bee") != ""
