"""Capture, sharing, feedback and reports in a real Chromium with an artificial camera and microphone."""

import re
from pathlib import Path

import pytest
from browser import UNFOLD, VERDICT, axe, expect, in_browser, opened, unfold

from detector.reports import verify_bundle
from detector.voices.detect import VOICE_MODEL_FILES

pytestmark = in_browser
needs_voice_model = pytest.mark.skipif(
    not VOICE_MODEL_FILES["onnx"].is_file(), reason="Videos and recordings need the voice model."
)


@pytest.fixture(scope="module")
def address(tmp_path_factory, start_server):
    with start_server(tmp_path_factory.mktemp("server")) as (address, _):
        yield address


def check(page, file):
    page.get_by_label("Choose a picture").set_input_files(file)
    page.get_by_role("button", name="Check this file").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)


def find_barriers(page):
    """Return what axe finds on a page, and whether the page is wider than the window."""
    page.wait_for_load_state()  # after a click a text may be there before the stylesheet
    page.evaluate(UNFOLD, True)
    violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    found = [(page.url, each["id"], each["nodes"][0]["target"]) for each in violations]
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append((page.url, "too wide", None))
    return found


def test_a_picture_from_the_camera_is_previewed_and_checked_by_keys_alone(scripted):
    scripted.get_by_role("button", name="Take a picture").focus()
    scripted.keyboard.press("Enter")
    expect(scripted.locator("#capture-use")).to_be_focused()
    expect(scripted.get_by_label("What the camera sees")).to_be_visible()
    expect(scripted.locator("#capture-status")).to_have_text("The camera is on.")
    expect(scripted.locator("#capture-view")).not_to_have_js_property("videoWidth", 0)
    scripted.keyboard.press("Enter")
    expect(scripted.locator("#preview")).to_be_visible()
    expect(scripted.locator("#send")).to_be_focused()
    expect(scripted.locator("#capture-panel")).to_be_hidden()
    assert scripted.evaluate("document.getElementById('capture-view').srcObject") is None
    scripted.keyboard.press("Enter")
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT)
    assert "camera.jpg" in scripted.title()


@needs_voice_model
@pytest.mark.parametrize(
    ("opener", "preview", "title"),
    [("Record a voice", "audio", "voice.webm"), ("Record a video", "video", "video.webm")],
)
def test_a_recording_is_previewed_and_checked(scripted, opener, preview, title):
    scripted.get_by_role("button", name=opener).click()
    scripted.get_by_role("button", name="Start recording").click()
    expect(scripted.locator("#capture-status")).to_have_text(re.compile(r"Recording: 0:(0[2-9]|[1-5]\d)"))
    scripted.get_by_role("button", name="Stop and use it").click()
    player = scripted.locator(f"#{preview}-preview")
    expect(player).to_be_visible()
    assert player.evaluate("player => player.src.slice(0, 5)") == "blob:"
    scripted.get_by_role("button", name="Check this file").click()
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT)
    assert title in scripted.title()


def test_a_cancelled_capture_leaves_nothing(scripted):
    opener = scripted.get_by_role("button", name="Record a video")
    opener.click()
    scripted.get_by_role("button", name="Start recording").click()
    expect(scripted.locator("#capture-status")).to_contain_text("Recording")
    scripted.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(scripted.locator("#capture-panel")).to_be_hidden()
    assert scripted.evaluate("document.getElementById('file').files.length") == 0


def test_a_refusal_is_said_in_a_sentence(scripted):
    scripted.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("", "NotAllowedError");
        }; }"""
    )
    scripted.get_by_role("button", name="Take a picture").click()
    expect(scripted.locator("#capture-problem")).to_have_text("The browser did not allow the camera or the microphone.")


def test_without_a_script_or_a_camera_there_are_no_buttons(chromium, address):
    with opened(chromium, address, java_script_enabled=False) as page:
        expect(page.get_by_role("button", name="Take a picture")).to_be_hidden()
    context = chromium.new_context(base_url=address)
    context.add_init_script("delete Navigator.prototype.mediaDevices")
    page = context.new_page()
    page.goto("/")
    expect(page.locator("html.scripted")).to_have_count(1)
    expect(page.get_by_role("button", name="Take a picture")).to_be_hidden()
    context.close()


def test_only_the_start_page_may_use_the_camera(client, face_jpeg):
    result = client.upload(face_jpeg).location
    allowed = {
        path: "camera=(self)" in client.get(path).headers["Permissions-Policy"] for path in ("/", result, "/feedback")
    }
    assert allowed == {"/": True, result: False, "/feedback": False}
    assert "microphone=(self)" in client.upload(b"").headers["Permissions-Policy"]  # the start page with an error


def test_a_link_is_created_opened_by_a_stranger_and_revoked(page, chromium, address, face_file):
    check(page, face_file)
    unfold(page, "Share this result")
    page.get_by_label("The link ends after").select_option(label="1 day")
    page.get_by_role("button", name="Create a link").click()
    link = page.get_by_label("Your new link").input_value()
    with opened(chromium, address, java_script_enabled=False) as stranger:
        assert stranger.goto(link).status == 200
        expect(stranger.get_by_role("heading", level=1)).to_have_text(VERDICT)
        expect(stranger.get_by_role("img", name="Shared picture: 1 face found")).to_be_visible()
        for picture in stranger.locator("svg image").all():
            assert stranger.request.get(picture.get_attribute("href")).ok
        expect(stranger.get_by_role("button")).to_have_count(0)
        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("status").first).to_have_text("The link has been revoked.")
        assert stranger.goto(link).status == 404


def test_feedback_is_sent_and_withdrawn(page, face_file):
    check(page, face_file)
    unfold(page, "Is this verdict wrong?")
    page.get_by_label("It is real").check()
    page.get_by_label("I agree that this server keeps the picture").check()
    page.get_by_role("button", name="Send the case").click()
    expect(page.get_by_text("You said that it is real.")).to_be_visible()
    page.get_by_role("link", name="your feedback").click()
    page.get_by_role("button", name="Withdraw the case").click()
    expect(page.get_by_text("You have sent no feedback.")).to_be_visible()


def test_a_report_is_downloaded_and_printed(page, face_file, real_detector):
    check(page, face_file)
    for name, start in (("Report as PDF", b"%PDF-"), ("Report as JSON", b"{"), ("Evidence as ZIP", b"PK")):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).first.click()
        data = Path(download.value.path()).read_bytes()
        assert data.startswith(start)
    assert verify_bundle(data, real_detector).differences == ()
    unfold(page, "Download the evidence")
    page.get_by_role("link", name="Open the report as a page for printing").click()
    expect(page.get_by_role("heading", name="How the verdict was computed")).to_be_visible()


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"viewport": {"width": 375, "height": 900}}])
def test_axe_finds_no_barrier(chromium, address, face_file, options):
    with opened(chromium, address, **options) as page:
        page.get_by_role("button", name="Take a picture").click()
        expect(page.locator("#capture-panel")).to_be_visible()
        found = find_barriers(page)
        page.goto("/")
        check(page, face_file)
        result = page.url
        unfold(page, "Share this result")
        page.get_by_role("button", name="Create a link").click()
        link = page.get_by_label("Your new link").input_value()
        found += find_barriers(page)
        page.get_by_label("It is a deepfake").check()
        page.get_by_label("I agree that this server keeps the picture").check()
        page.get_by_role("button", name="Send the case").click()
        for visit in (result, "/feedback", link, "/shared/nothing", f"{result}/report.html"):
            page.goto(visit)
            if not visit.endswith("report.html"):  # its policy lets no script run, axe neither
                found += find_barriers(page)
    assert found == []
