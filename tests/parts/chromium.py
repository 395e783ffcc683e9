"""Debian's Chromium without a window, driven by Playwright, and kept on this machine.

Every name but loopback's fails to resolve and every request elsewhere is refused: a page that would fetch a font or a
script from the Internet is a mistake to be seen here.
"""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, Route, ViewportSize, sync_playwright

from tests.parts.programs import Part, ProgramFailedError, require

LOOPBACK = ("127.", "localhost")
SIZE = ViewportSize(width=1280, height=900)
ARGUMENTS = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--force-color-profile=srgb",
]


class Chromium(Part):
    """A headless browser; `refused` lists what its pages asked of other machines."""

    def __init__(self) -> None:
        self.program = require("chromium", "chromium-browser", package="chromium fonts-noto-color-emoji")
        self.refused: list[str] = []
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def start(self) -> None:
        """Start the browser; returns when it takes commands."""
        # Chromium's own sandbox refuses to run as root; what it loads here is ours.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=self.program, args=ARGUMENTS + sandbox
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the browser with all its pages."""
        if self._browser is not None:
            self._browser.close()
            self._browser = None
        if self._playwright is not None:
            self._playwright.stop()
            self._playwright = None

    def page(self, url: str | None = None, *, size: ViewportSize = SIZE, dark: bool = False) -> Page:
        """A new page in a profile of its own, with `url` opened when given."""
        if self._browser is None:
            raise ProgramFailedError(f"{self.program} was not started")
        context = self._browser.new_context(
            viewport=size, locale="en-GB", timezone_id="UTC", color_scheme="dark" if dark else "light"
        )
        context.route("**/*", self._stay_here)
        page = context.new_page()
        if url is not None:
            page.goto(url)
        return page

    def _stay_here(self, route: Route) -> None:
        parts = urlsplit(route.request.url)
        if parts.scheme in {"data", "blob", "about"} or (parts.hostname or "").startswith(LOOPBACK):
            route.continue_()
        else:
            self.refused.append(route.request.url)
            route.abort()


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    """A running headless browser."""
    with Chromium() as browser:
        yield browser
