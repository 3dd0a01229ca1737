"""Score matrices to score matrices: reciprocal re-ranking, means of several models."""
