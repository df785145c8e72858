"""How updates become a model, one strategy a module."""
