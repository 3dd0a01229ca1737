"""A real index of drawn pictures, served; and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.indexed import drawn_index
from tests.integration.conftest import data, recipe, run_folder  # noqa: F401  (fixtures)
from tests.integration.serving import listening
from visavis.search.index import Index

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def index(
    data: Path,  # noqa: F811
    run_folder: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Index:
    """The 40 drawn pictures, matched by a model that was trained for a second."""
    return drawn_index(data, run_folder, tmp_path_factory.mktemp("runs") / "companion")


@pytest.fixture(scope="session")
def site(index: Index) -> Iterator[str]:
    """The address of the service."""
    with listening(index) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; without one these tests are skipped, and say so.

    While it runs this thread has a running event loop, which other tests could not bear.
    """
    path = os.environ.get("VISAVIS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no chromium: `apt-get install chromium`, or VISAVIS_CHROMIUM=PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what went wrong in it."""

    page: Any
    shots: Path
    troubles: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # parts of messages that the test causes on purpose

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is."""
        self.page.screenshot(path=self.shots / f"{name}.png")

    def ask(self, sentence: str) -> None:
        """Type a sentence and wait for its pictures."""
        self.page.fill("#sentence", sentence)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".grid:not(.waiting) a")

    def open_first(self) -> None:
        """Look at the first picture until it is explained."""
        self.page.locator(".grid a").first.click()
        self.page.wait_for_selector("#detail .word")


Visiting = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Any, site: str, tmp_path: Path) -> Iterator[Visiting]:
    """Open the page. At the end there must have been no error and no request to elsewhere."""
    visits: list[Visit] = []
    contexts = []

    def opened(path: str = "/", address: str = site, **settings: Any) -> Visit:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        found = Visit(context.new_page(), tmp_path)
        found.page.on("pageerror", lambda error: found.troubles.append(str(error)))
        found.page.on(
            "console",
            lambda said: found.troubles.append(said.text) if said.type == "error" else None,
        )
        found.page.on(
            "request",
            lambda asked: (
                found.troubles.append(f"asked {asked.url}")
                if not asked.url.startswith((address, "blob:"))
                else None
            ),
        )
        found.page.goto(address + path)
        visits.append(found)
        return found

    yield opened
    for context in contexts:
        context.close()
    for one in visits:
        left = [t for t in one.troubles if not any(part in t for part in one.expected)]
        assert left == []


def asked(visit: Visit) -> dict[str, str]:
    """What the address of the page says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(visit.page.url).query).items()}


def lit(visit: Visit, kind: str) -> list[float]:
    """How brightly each word or region is lit."""
    found = visit.page.locator(f"#detail .{kind}").evaluate_all(
        "all => all.map(one => Number(one.style.getPropertyValue('--lit')))"
    )
    return [float(value) for value in found]


def ids(visit: Visit) -> list[str]:
    """The pictures that are shown."""
    found: list[str] = visit.page.locator(".grid a").evaluate_all("a => a.map(x => x.dataset.id)")
    return found
