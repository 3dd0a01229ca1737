"""Corpora, captions, tokenizers and features: everything between files and batches."""
