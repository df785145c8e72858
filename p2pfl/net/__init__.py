"""Sockets: TLS, links to every peer, blob transfer. Nothing here knows what a round is."""
