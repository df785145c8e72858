import pytest

from p2pfl.sim.__main__ import main

SMALL = ["--nodes", "3", "--rounds", "2", "--seeds", "3"]


def test_seeds_that_hold_are_counted_and_end_with_0(capsys):
    assert main(SMALL) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 seeds, 9 rounds of 3 nodes in ")
    assert "faults: heavy; 0 violations" in said


def test_without_adoption_the_violation_is_shown_with_its_seed_and_the_end_of_its_trace(capsys):
    assert main(["--seeds", "20", "--no-adoption"]) == 1
    said = capsys.readouterr().out
    assert "agreement: two records chosen" in said
    assert "Proposed(" in said
    assert said.splitlines()[-1].startswith("seed ")


def test_one_seed_can_be_replayed_with_its_trace(capsys):
    assert main(["--nodes", "3", "--rounds", "1", "--seed", "4", "--trace", "--faults", "none"]) == 0
    said = capsys.readouterr().out
    assert "RunJoined(" in said
    assert said.splitlines()[-1] == "seed 4: 2 rounds, every invariant held"


def test_several_processes_do_the_same(capsys):
    assert main([*SMALL, "--jobs", "2"]) == 0
    assert "3 seeds, 9 rounds of 3 nodes" in capsys.readouterr().out


def test_a_number_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--nodes", "0"])
    assert "0 is not a number from 1 up" in capsys.readouterr().err
