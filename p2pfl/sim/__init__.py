"""The simulator: whole federations in one thread, on virtual time, reproducible from a seed.

`World` runs the real protocol core of every node over a simulated network, simulated disks and simulated
workers. `InvariantChecker` sees every disk and checks the invariants after every effect. `Faults` are the
rates of the faults to inject. Each of the `RULES` can be left out: the checker must then find a violation.
`p2pfl simulate` runs many seeds.
"""
