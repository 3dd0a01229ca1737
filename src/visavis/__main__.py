"""`python -m visavis`, where the command itself is not on the path."""

from __future__ import annotations

from visavis.cli.main import main

main()
