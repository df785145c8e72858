"""Tasks of the user's own: a file with model() and data()."""
