"""The terminal UI: a node's peers, rounds and accuracy, live.

A program of its own, `python -m tui`, and a client of a node (`p2pfl.observe`): whatever happens here, the
node goes on. `p2pfl` never imports it.
"""
