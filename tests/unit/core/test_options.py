from p2pfl.core.options import Policy, highest_accepted
from tests.support.core import ballot, chain_of, model
from tests.support.records import NAMES


def records():
    chain = chain_of(*NAMES[:3])
    made = []
    for word in ("low", "high"):
        made.append(chain.commit(model=model(word)).record)
        chain.commits.pop()
    return made


def test_the_value_of_the_highest_ballot_must_be_proposed():
    low, high = records()
    assert highest_accepted([(ballot(2, "ada"), high), (ballot(1, "ben"), low)]) == high


def test_between_equal_attempts_the_node_id_decides():
    low, high = records()
    assert highest_accepted([(ballot(1, "ben"), high), (ballot(1, "ada"), low)]) == high


def test_where_nothing_was_accepted_the_aggregator_is_free():
    assert highest_accepted([]) is None


def test_the_rule_is_on_unless_a_test_replaces_it():
    assert Policy().adopt is highest_accepted
