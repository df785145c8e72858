from __future__ import annotations

from p2pfl.doctor.links import MAX_PAIRS, check_links
from p2pfl.doctor.subject import Reached
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.blobs import LinkedNode


def reached(name: str, *links: str, told: bool = True) -> Reached:
    linked = tuple(LinkedNode(one, one) for one in links)
    return Reached(
        Address(f"{name}.local", 9000), PeerIdentity(name, name, "node", "lab"), linked if told else None
    )


def test_nodes_that_are_all_linked_are_one_line() -> None:
    findings = list(check_links([reached("ant", "bee"), reached("bee", "ant")]))
    assert [one.text for one in findings] == ["the 2 nodes that were reached are all linked to each other"]


def test_a_pair_without_a_link_is_named_with_what_to_run_where() -> None:
    pairs = [reached("ant", "bee"), reached("bee", "ant", "cat"), reached("cat", "bee")]
    [finding] = list(check_links(pairs))
    assert finding.level == "warn"
    assert finding.text.startswith("ant and cat both run, and have no link to each other")
    assert finding.commands == (
        "# on ant:",
        "p2pfl doctor --peers cat.local:9000",
        "# on cat:",
        "p2pfl doctor --peers ant.local:9000",
    )


def test_nodes_that_were_not_asked_are_named() -> None:
    findings = list(check_links([reached("ant", "dog", "fox"), reached("eel", told=False)]))
    assert [one.text for one in findings] == ["other nodes that are linked to those: dog, fox"]
    assert list(check_links([reached("ant", "dog")], own="dog")) == []


def test_nobody_who_told_of_links_is_no_finding() -> None:
    assert list(check_links([])) == []
    assert list(check_links([reached("ant", told=False)])) == []


def test_many_pairs_are_counted() -> None:
    lonely = [reached(f"n{number}") for number in range(10)]
    findings = list(check_links(lonely))
    assert len(findings) == MAX_PAIRS + 1
    assert findings[-1].text == "so it is with 25 more pairs"
