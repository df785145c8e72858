"""Finding nodes and invitations in the local network by multicast DNS (RFC 6762, RFC 6763)."""
