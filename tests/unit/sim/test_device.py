import pytest

from p2pfl.config import ProtocolSettings
from p2pfl.core import inputs
from p2pfl.core.effects import Average, Fold, SaveReport, Train
from p2pfl.core.options import Policy
from p2pfl.sim.device import Device, average_of
from p2pfl.sim.disk import Disk
from tests.support.core import ballot, member, model, options


@pytest.fixture
def device():
    return Device("ada", Disk(member("ada")), options(), ProtocolSettings(), Policy())


def work(device, effect):
    return device.work(effect, lambda: 0.5)


def fold(device, attempt, word):
    return work(device, Fold(model("run"), 1, ballot(attempt, "ada"), model(word), 100))


def averaged(device, attempt):
    _, result = work(device, Average(model("run"), 1, ballot(attempt, "ada")))
    return result.digest


def test_an_average_is_that_of_the_folded_updates_whatever_their_order(device):
    fold(device, 1, "b")
    fold(device, 1, "a")
    assert averaged(device, 1) == average_of(ballot(1, "ada"), sorted([model("a"), model("b")]))


def test_a_new_ballot_begins_a_new_sum(device):
    fold(device, 1, "left over")
    fold(device, 2, "a")
    assert averaged(device, 2) == average_of(ballot(2, "ada"), [model("a")])


def test_a_slow_device_takes_as_many_times_longer(device):
    train = Train(model("run"), 1, device.options.spec, model("parent"), 0)
    usual, _ = work(device, train)
    device.slowness = 10.0
    slow, result = work(device, train)
    assert slow == pytest.approx(10 * usual)
    assert isinstance(result, inputs.Trained)
    assert result.seconds == slow


def test_effects_that_are_no_workers_are_left_alone(device):
    assert work(device, SaveReport(model("run"), 1, "a", None)) is None


def test_every_start_has_another_nonce_and_boot(device):
    nonces = set()
    for boot in (1, 2, 3):
        device.boot_up(0.0)
        assert device.boot == boot
        nonces.add(device.options.nonce)
        device.crash()
    assert len(nonces) == 3


def test_a_lost_disk_is_empty_and_has_another_journal(device):
    before = device.member
    device.disk.blobs.add(model("anything"))
    device.lose_disk()
    assert device.member.node == before.node
    assert device.member.journal != before.journal
    assert device.disk.blobs == set()
