"""Monitoring of a running node: metrics for Prometheus and health probes over HTTP, made of its events."""
