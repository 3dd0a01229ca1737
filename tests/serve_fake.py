"""A service over an index of known answers, as a process: `python -m tests.serve_fake`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.served import FakeIndex
from visavis.server.app import create_app
from visavis.server.listen import listen
from visavis.server.settings import ServeConfig


def main() -> None:
    """Serve a folder of pictures: FOLDER, seconds of a search, settings as JSON."""
    folder, seconds, settings = sys.argv[1:4]
    config = ServeConfig(port=0, **json.loads(settings))
    index = FakeIndex(Path(folder), seconds=float(seconds))
    listen(create_app(index, config), config, said=_say)  # type: ignore[arg-type]


def _say(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
