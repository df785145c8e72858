"""Bytes to values and back: frames, the link's own frames, the codec. Pure: no socket, no clock."""
