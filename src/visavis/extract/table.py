"""The extractors by name. To add one: one file beside this one and one line below."""
