"""A real headless Chromium (Debian's), driven by playwright."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright import sync_api

from dev.cluster import debian


@contextmanager
def chromium() -> Iterator[sync_api.Browser]:
    """The browser, installed where it is absent."""
    if debian.found("chromium") is None:
        debian.install(["chromium"])
    with sync_api.sync_playwright() as playwright:
        # As root it has no sandbox; it opens our own page only.
        browser = playwright.chromium.launch(
            executable_path=str(debian.found("chromium")), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()
