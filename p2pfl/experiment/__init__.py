"""Simulations and experiments: many clients on one machine, and tables of their results."""
