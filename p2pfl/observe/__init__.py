"""The observer's side: finds a running node, connects to it, follows its events and sends it commands."""
