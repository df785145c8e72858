"""What Python programs use, beside the tasks and loops of `learning`: nodes, certificates, history.

`p2pfl` offers these names; see `examples/README.md`.
"""
