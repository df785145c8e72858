"""The network of a node: encrypted connections, links to peers, and blob transfer. It knows no rounds."""
