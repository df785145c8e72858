"""Dialling: which addresses a node dials, how often it retries, and how it reports failures to the user."""
