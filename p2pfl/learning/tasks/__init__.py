"""The built-in tasks, one a module; `p2pfl.learning.catalogue` lists them."""
