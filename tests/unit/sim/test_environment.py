from p2pfl.sim.environment import Clock


def test_things_happen_in_the_order_of_their_times() -> None:
    clock = Clock()
    seen: list[float] = []
    for delay in (3.0, 1.0, 2.0):
        clock.after(delay, seen.append, delay)
    while clock.next_at is not None:
        clock.step()
    assert seen == [1.0, 2.0, 3.0]
    assert clock.now == 3.0


def test_of_two_due_at_once_the_first_put_in_is_first() -> None:
    clock = Clock()
    seen: list[str] = []
    clock.at(1.0, seen.append, "first")
    clock.at(1.0, seen.append, "second")
    clock.step()
    clock.step()
    assert seen == ["first", "second"]


def test_what_happens_may_let_more_happen() -> None:
    clock = Clock()
    seen: list[str] = []
    clock.after(1.0, lambda: clock.after(1.0, seen.append, "later"))
    clock.step()
    assert clock.next_at == 2.0
    clock.step()
    assert seen == ["later"]
