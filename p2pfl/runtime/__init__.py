"""Runs a node: executes the protocol's effects with asyncio, TLS, a disk and a worker process.

`start.start_node` starts a node's worker and imports the rest; `node.run_node` then runs the node to its exit
code. `driver` passes inputs and the time to the protocol, `jobs` executes the effects that take time, and
`observing` serves observers and their commands.
"""
