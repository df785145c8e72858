"""Runs a node: executes the protocol's effects with asyncio, TLS, a disk and a worker process.

`node.run_node` runs one node from its start to its exit code. `driver` passes inputs and the time to the
protocol, `jobs` executes the effects that take time, and `observing` serves observers and their commands.
"""
