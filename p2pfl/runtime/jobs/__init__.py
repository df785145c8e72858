"""Executes the effects that take time: pulls blobs, sends jobs to the worker, deletes unneeded blobs."""
