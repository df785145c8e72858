"""Identity: keys, certificates, and the names and roles in them."""
