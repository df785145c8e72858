"""Exported models: their description, loading, judging and conversion."""
