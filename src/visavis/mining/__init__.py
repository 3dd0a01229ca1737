"""Offline hard negatives: the best wrong sentences of every image, and the other way round."""
