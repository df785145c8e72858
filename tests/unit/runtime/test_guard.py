from p2pfl.runtime.guard import Guard


def test_a_guard_holds_until_it_was_released_as_often_as_added():
    guard = Guard()
    guard.add("a")
    guard.add("a")
    guard.release("a")
    assert guard.holds("a")
    assert not guard.holds("b")
    guard.release("a")
    assert not guard.holds("a")
