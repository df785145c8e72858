"""The demo: a federation of real node processes on one machine, watched from outside."""
