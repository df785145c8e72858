"""The aggregation strategies, one in each module."""
