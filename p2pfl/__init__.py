"""Federated learning with no server: see README.md beside this file for the architecture."""

__version__ = "0.1.0"
