"""Tasks, local training and aggregation: the only package that imports torch.

The node process and the command line use `commands`, `process`, `watchdog`, `catalogue`, `data` and
`partition`, which import neither torch nor numpy. All other modules run in the worker process only.
"""
