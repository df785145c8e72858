"""The real driver: carries the protocol's effects out with asyncio, TLS, a disk and a worker process.

`run_node` is one node from start to exit code. `driver` gives the protocol its inputs and time, `jobs`
carries out the effects that take time, `observing` shows the node to people and takes their commands.
"""
