"""Checks the limit of open files: each link and each transfer needs one."""

from __future__ import annotations

import sys

from p2pfl.doctor.finding import Finding
from p2pfl.net.transport.sockets import MAX_OPEN_FILES, RESERVED_FILES
from p2pfl.runtime.node import OWN_FILES

FILES_OF_A_NODE = 3
"""A link, and a bulk connection in each direction."""


def hard_limit() -> int:
    """Return the number of files that a node may open here: it raises its limit as far as it can."""
    if sys.platform == "win32":
        return MAX_OPEN_FILES
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)


def check_files(peers: int, limit: int) -> Finding:
    """Check whether *limit* open files are enough for *peers* other nodes."""
    room = limit - OWN_FILES - min(RESERVED_FILES, limit // 2)
    nodes = max(0, room) // FILES_OF_A_NODE
    text = f"up to {limit} open files, enough for {nodes} other nodes"
    if nodes < peers:
        return Finding(
            "FAIL" if room < peers else "warn",
            f"a node may have only {limit} files and connections open here",
            "raise the limit of open files before the start: `ulimit -Hn 4096` as root, or LimitNOFILE=4096 "
            "of a service",
            ("# as root, in the shell that starts the node:", "ulimit -Hn 4096 && ulimit -n 4096"),
        )
    return Finding("ok", text)
