"""TCP and TLS connections: addresses, name resolution, sockets, mutual TLS, and the bytes on a connection.

It knows nothing of links, blobs or rounds.
"""
