"""The simulated driver: whole federations in one thread, on virtual time, reproducible from a seed.

`World` runs the real protocol core of every node over a modelled network, modelled disks and modelled
workers; `InvariantChecker` knows everything and judges every step; `Faults` says what goes wrong; `RULES` can
be left out one at a time to see that the judge notices. `p2pfl simulate` runs many seeds.
"""
