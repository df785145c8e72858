"""The files that `p2pfl task new` copies: each runs as it is, without a download."""
