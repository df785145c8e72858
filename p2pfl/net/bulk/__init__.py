"""Blob transfer: bulk connections, apart from links so that a large blob never delays a vote."""
