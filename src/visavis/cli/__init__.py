"""The command line: one file per verb; each translates and calls the library."""
