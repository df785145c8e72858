"""Makes a node observable: publishes events, serves observers, samples metrics, executes their commands."""
