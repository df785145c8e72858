"""The protocol as a pure state machine: no clock, no socket, no disk, no tensor.

`Node.input(input, now)` and `Node.tick(now)` return effects (`p2pfl.core.effects`); `Node.deadline()` says
when the next tick is due. Two drivers carry the effects out: `p2pfl.runtime` (asyncio, TLS, disk, worker) and
`p2pfl.sim` (virtual time).
"""
