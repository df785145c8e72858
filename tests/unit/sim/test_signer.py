"""Simulated signatures keep devices apart, as real ones do."""

from p2pfl.sim.setting import node_id
from p2pfl.sim.signer import signer_of, verify

ONE, OTHER = node_id(0), node_id(1)


def test_a_device_signs_as_itself_and_as_nobody_else():
    one, other = signer_of(ONE), signer_of(OTHER)
    signature = one.sign(b"text")
    assert verify(ONE, one.key, signature, b"text")
    assert not verify(ONE, one.key, signature, b"another text")
    assert not verify(ONE, one.key, other.sign(b"text"), b"text")
    assert not verify(OTHER, one.key, signature, b"text")
    assert not verify(OTHER, other.key, signature, b"text")
