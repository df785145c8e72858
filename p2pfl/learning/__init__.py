"""Tasks, training and averaging: the only package that knows torch.

`commands`, `process`, `catalogue`, `data` and `partition` are also used by the node process and the command
line, and import neither torch nor numpy. Everything else runs in the worker process only.
"""
