"""Bytes to values and back: frames, the link's own frames, the codec. It opens no socket and reads no
clock."""
