"""Frames on connections: their bytes, bounds and codecs, without any I/O."""
