"""Federated learning with many clients on one machine, without sockets: clients, attackers and engines."""
