"""Shows a node to people: publishes events, serves observers, samples metrics, takes commands."""
