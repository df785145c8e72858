from __future__ import annotations

from p2pfl.net.dialling.address_book import MAX_FAILURES, MAX_NODES, AddressBook, parse_shared
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.links import MAX_ADDRESSES

OWN, NODE = "a" * 52, "b" * 52


def test_the_most_likely_address_comes_first() -> None:
    book = AddressBook(OWN)
    assert book.add(NODE, [Address("told", 1)], first=False)
    assert book.add(NODE, [Address("linked", 1)], first=True)
    assert book.addresses(NODE) == (Address("linked", 1), Address("told", 1))


def test_known_addresses_are_not_new() -> None:
    book = AddressBook(OWN)
    book.add(NODE, [Address("x", 1)], first=False)
    assert not book.add(NODE, [Address("x", 1)], first=True)


def test_addresses_of_this_node_are_not_added() -> None:
    book = AddressBook(OWN)
    assert not book.add(OWN, [Address("x", 1)], first=True)
    assert book.addresses(OWN) == ()


def test_a_removed_address_is_gone() -> None:
    book = AddressBook(OWN)
    book.add(NODE, [Address("x", 1), Address("y", 1)], first=True)
    book.remove(NODE, Address("x", 1))
    assert book.addresses(NODE) == (Address("y", 1),)


def test_the_book_is_bounded() -> None:
    book = AddressBook(OWN)
    for number in range(MAX_NODES + 1):
        book.add(f"{number}", [Address("x", port) for port in range(1, 100)], first=False)
    assert book.addresses(f"{MAX_NODES}") == ()
    assert len(book.addresses("0")) == MAX_ADDRESSES


def test_only_valid_shareable_addresses_are_accepted_from_peers() -> None:
    told = ["host:9000", "no address", "[fe80::1]:9000", "0.0.0.0:9000", "[2001:db8::1]:9000"]
    assert parse_shared(told) == [Address("host", 9000), Address("2001:db8::1", 9000)]


def test_an_address_from_peers_is_dropped_after_failed_dials() -> None:
    book = AddressBook(OWN)
    book.add(NODE, [Address("own", 1)], first=True)
    book.add(NODE, [Address("told", 1), Address("own", 1)], first=False)
    for _ in range(MAX_FAILURES):
        assert Address("told", 1) in book.addresses(NODE)
        book.dial_failed(NODE, Address("told", 1))
        book.dial_failed(NODE, Address("own", 1))
    assert book.addresses(NODE) == (Address("own", 1),)


def test_a_forgotten_node_is_new_again() -> None:
    book = AddressBook(OWN)
    book.add(NODE, [Address("x", 1)], first=False)
    book.forget(NODE)
    assert book.addresses(NODE) == ()
    assert book.add(NODE, [Address("x", 1)], first=False)
