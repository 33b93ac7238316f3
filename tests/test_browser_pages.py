"""Every kind of page in a real Chromium: it fits, it can be read, and axe finds no barrier."""

from pathlib import Path

import pytest
from browser import (
    ANALYSIS_MS,
    UNFOLD,
    VERDICT,
    assert_it_fits_and_can_be_read,
    axe,
    check,
    expect,
    in_browser,
    opened,
    wait_for_batch,
)
from PIL import Image

from detector.voices.detect import VOICE_MODEL_FILES

pytestmark = in_browser


@pytest.fixture(scope="module")
def address(tmp_path_factory, start_server):
    settings = {"DEEPFAKE_OPERATOR_TOKEN": "a token for the tests"}  # so that there is a page for the operator
    with start_server(tmp_path_factory.mktemp("server"), **settings) as (address, _):
        yield address


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 320, "height": 640}}])
def test_every_page_fits_and_can_be_read(chromium, address, face_file, options):
    """No page is wider than the window, and every text stands out from its ground as WCAG AA asks (4.5 to 1)."""
    with opened(chromium, address, **options) as page:
        page.locator("#file").set_input_files([face_file, Path(__file__)])
        page.locator("#send").click()
        wait_for_batch(page)
        pages = [page.url]
        page.goto("/")
        check(page, face_file)
        page.get_by_role("button", name="Check again").first.click()
        expect(page.get_by_role("heading", name="What changed")).to_be_visible()
        both = page.get_by_role("link", name="Compare both").get_attribute("href")
        fixed = ("/", "/performance", "/api", "/nowhere", "/history", "/batches", "/statistics", "/operator")
        for visit in (*pages, page.url, *fixed, both):
            page.goto(visit)
            page.evaluate(UNFOLD, True)
            assert_it_fits_and_can_be_read(page)


@pytest.fixture(scope="module")
def visited(chromium, address, face_file, clip_file, sound_file, tmp_path_factory):
    """A visitor's cookies, and the addresses of every kind of page."""
    empty = tmp_path_factory.mktemp("pictures") / "wall.png"
    Image.new("RGB", (300, 200), "grey").save(empty)
    pages = ["/", "/performance", "/api", "/nowhere", "/history", "/batches", "/statistics", "/operator"]
    files = [face_file, empty]
    if VOICE_MODEL_FILES["onnx"].is_file():
        files += [clip_file, sound_file]
    with opened(chromium, address) as page:
        for file in files:
            page.goto("/")
            check(page, file)
            expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT, timeout=ANALYSIS_MS)
            pages.append(page.url)
        results = [visit.rpartition("/")[2] for visit in pages if "/analyses/" in visit]
        pages.append(f"/compare?analysis={results[0]}&analysis={results[-1]}")
        page.goto(pages[-2])
        page.get_by_role("button", name="Check again").first.click()
        expect(page.get_by_role("heading", name="What changed")).to_be_visible(timeout=ANALYSIS_MS)
        pages.append(page.url)
        page.goto("/")
        page.locator("#file").set_input_files([face_file, empty, Path(__file__)])
        page.locator("#send").click()
        wait_for_batch(page)
        pages.append(page.url)
        page.goto("/")
        check(page, clip_file)
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Cancelled")
        yield page.context.storage_state(), [*pages, page.url]


@pytest.mark.parametrize(
    ("script", "theme", "width"),
    [
        ("with script", "light", 1440),
        ("with script", "dark", 768),
        ("with script", "light", 375),
        ("without script", "dark", 1440),
        ("without script", "light", 768),
        ("without script", "dark", 375),
    ],
)
def test_axe_finds_no_barrier_on_any_page(chromium, address, visited, script, theme, width):
    """No violation of any impact, with every part folded and unfolded, in every pair of two settings."""
    cookies, pages = visited
    options = {"color_scheme": theme, "viewport": {"width": width, "height": 900}, "storage_state": cookies}
    found = []
    with opened(chromium, address, **options) as page:
        if script == "without script":  # axe itself is a script, so the page's own are emptied instead of switched off
            page.route("**/*.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        for visit in pages:
            page.goto(visit)
            for is_open in (False, True) if page.locator("details").count() else (False,):
                page.evaluate(UNFOLD, is_open)
                violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
                found += [(visit, each["id"], each["nodes"][0]["target"]) for each in violations]
    assert found == []
