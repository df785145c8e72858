"""The terminal UI: shows a node's peers, rounds and accuracy live.

It is a program of its own, `python -m tui`, and an observer of a node (`p2pfl.observe`): the node continues
whatever happens here. `p2pfl` never imports it.
"""
