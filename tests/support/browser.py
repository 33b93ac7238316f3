"""A real Chromium: what the tests of pages in it share. Without Playwright a test file that imports it is skipped."""

import os
import re
import shutil
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="The browser tests need the package playwright.")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="They also need axe-playwright-python.").Axe()
expect = playwright.expect
expect.set_options(timeout=60_000)  # a busy machine is slow

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ANALYSIS_MS = 120_000  # a busy machine is slow
VERDICT = re.compile("This is a (Real|Deepfake) [A-Z][a-z]+!|Inconclusive|Could not be checked: .+")
FAKE_DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM, reason="The browser tests need Chromium: install it, or name it with the variable CHROMIUM."
    ),
]


@contextmanager
def run_chromium():
    """Run Chromium with an artificial camera and microphone."""
    with playwright.sync_playwright() as driver:
        # Chromium refuses its own sandbox to root, who runs the tests in a container
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*arguments, *FAKE_DEVICES])
        yield browser
        browser.close()


@contextmanager
def opened(chromium, address, **options):
    """Open the start page for a new visitor; afterwards check that the browser reported no error."""
    errors = []
    context = chromium.new_context(base_url=address, **options)
    context.set_default_timeout(ANALYSIS_MS)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective))"
    )
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/")
    yield page
    context.close()
    assert [text for text in errors if "the server responded with a status of 4" not in text] == []


def unfold(page, name):
    page.locator("summary").filter(has=page.get_by_role("heading", name=name)).click()
