"""Image-sentence matching: train, compare, index, search and explain."""

__version__ = "0.1.0"
