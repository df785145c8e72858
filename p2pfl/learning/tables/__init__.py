"""Private tables as a task: reading, kinds of columns, encoding, models."""
