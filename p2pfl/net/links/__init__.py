"""Links: one long-lived control connection for each pair of nodes, which carries the protocol's messages."""
