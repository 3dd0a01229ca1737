"""Losses: score matrix and positives to one number."""
