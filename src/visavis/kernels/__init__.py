"""Fused forms of cross attention, chosen when they are called; docs/kernels.md."""
