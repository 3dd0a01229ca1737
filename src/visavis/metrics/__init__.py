"""Metrics: score matrix and positives to numbers."""
