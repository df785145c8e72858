"""The built-in tasks, one in each module. `p2pfl.learning.catalogue` lists them."""
