"""Debian's Chromium, driven by Playwright: pages that note whatever goes wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from playwright.sync_api import Browser, Page, sync_playwright

from tests.servers import find_program

Scheme = Literal["light", "dark"]

PACKAGE: Final = "chromium"
#: How long a page may take to show something.
SHOWN_MS: Final = 15_000

_NOTE_VIOLATIONS: Final = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates the policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser.

    Raises:
        FileNotFoundError: there is none.
    """
    program = find_program("chromium")
    if program is None:
        raise FileNotFoundError("chromium")
    with sync_playwright() as playwright:
        # The tests run as root in a container, where its sandbox doesn't start; it sees the test's own pages only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Scheme = "light",
    still: bool = False,
    troubles: list[str] | None = None,
) -> Iterator[Page]:
    """A page of its own; what it logs as an error, throws, or does against its policy is added to `troubles`."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce" if still else "no-preference",
    )
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.add_init_script(_NOTE_VIOLATIONS)
    noted = [] if troubles is None else troubles
    page.on("console", lambda said: noted.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: noted.append(str(error)))
    try:
        yield page
    finally:
        context.close()
