"""Private pictures as a task: folders, files, batches."""
