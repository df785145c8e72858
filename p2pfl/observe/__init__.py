"""The observer's side: find a node, connect to it, follow what it tells, command it."""
