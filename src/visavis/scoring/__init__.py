"""All pairs in blocks, aligned pairs, top-k."""
