"""Carries out the effects that take time: pulls blobs, gives work to the worker, deletes old blobs."""
