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
ANALYSIS_MS = 600_000  # a busy machine is slow, and the check of an explanation scores 700 faces
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


def check(page, file):
    page.get_by_label("Choose a picture").set_input_files(file)
    page.get_by_role("button", name="Check this file").click()


def wait_for_batch(page):
    expect(page).to_have_url(re.compile(r"/batches/[\w-]{22}$"), timeout=ANALYSIS_MS)
    expect(page.locator("#progress")).to_have_count(0, timeout=ANALYSIS_MS)


def assert_it_fits_and_can_be_read(page):
    page.wait_for_load_state()  # after a click a text may be there before the stylesheet
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
    assert page.evaluate(FAINT_TEXTS) == [], page.url


UNFOLD = "open => document.querySelectorAll('details').forEach((part) => { part.open = open; })"
FAINT_TEXTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const linear = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = rgba(getComputedStyle(each).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    const faint = [];
    for (const element of document.body.querySelectorAll("*:not(svg *)")) {
        const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
        if (!text || !element.checkVisibility()) continue;
        const [a, b] = [rgba(getComputedStyle(element).color), ground(element)].map(light).sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(text);
    }
    return faint;
}"""
