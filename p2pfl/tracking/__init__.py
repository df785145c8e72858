"""Trackers: each round's measured values as CSV, and for TensorBoard, MLflow and Weights & Biases."""
