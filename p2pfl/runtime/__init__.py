"""Runs a node: executes the protocol's effects with asyncio, TLS, a disk and a worker process.

`start.start_node` starts the worker of a node and imports the rest, and `node.run_node` runs the node from its
start to its exit code. `driver` passes inputs and the time to the
protocol, `jobs` executes the effects that take time, and `observing` serves observers and their commands.
"""
