"""Training loops of the user's own: both sides of the connection between a node and a trainer."""
