"""The pages in a real Chromium, against a real server with the real detector."""

import re
from pathlib import Path

import pytest
from browser import (
    ANALYSIS_MS,
    VERDICT,
    assert_it_fits_and_can_be_read,
    check,
    expect,
    in_browser,
    opened,
    unfold,
    wait_for_batch,
)

from detector.reports import verify_bundle
from detector.voices.detect import VOICE_MODEL_FILES

OPERATOR_TOKEN = "a token for the tests"

pytestmark = in_browser
needs_voice_model = pytest.mark.skipif(
    not VOICE_MODEL_FILES["onnx"].is_file(), reason="Videos and recordings need the voice model."
)


@pytest.fixture(scope="module")
def address(tmp_path_factory, start_server):
    settings = {"DEEPFAKE_MAX_UPLOAD_MB": "2", "DEEPFAKE_OPERATOR_TOKEN": OPERATOR_TOKEN}
    with start_server(tmp_path_factory.mktemp("server"), **settings) as (address, _):
        yield address


def delete(page, item):
    """Delete the file of a page, which asks once."""
    button = page.get_by_role("button", name=f"Yes, delete the {item}").last
    expect(button).to_be_hidden()
    page.locator(".deletion > summary").last.click()
    button.click()


def test_upload_result_and_deletion(page, face_file):
    check(page, face_file)
    expect(page).to_have_url(re.compile(r"/analyses/[\w-]{22}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)
    expect(page.get_by_role("img", name="me.jpg: 1 face found")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(0)
    unfold(page, "The face")
    expect(page.get_by_role("row")).to_have_count(2)
    for picture in page.locator("svg image").all():  # the picture and its heat map did arrive
        assert page.request.get(picture.get_attribute("href")).ok
    result = page.url

    page.get_by_role("link", name="Check another file").first.click()
    expect(page.get_by_role("link", name="me.jpg")).to_have_attribute("href", re.compile(result.rpartition("/")[2]))
    page.get_by_role("link", name="me.jpg").click()
    delete(page, "picture")
    expect(page.get_by_role("status").first).to_contain_text("have been deleted")
    assert page.goto(result).status == 404


def test_results_are_searched_compared_and_deleted(page):
    for sample in ("Try a real portrait", "Try a fake of it", "Try a fake it does not find"):
        page.goto("/")
        page.get_by_role("button", name=sample).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)
    expect(page.get_by_text("Deleted automatically on").first).to_be_visible()
    page.get_by_role("button", name="Check again").first.click()
    expect(page.get_by_role("heading", name="What changed")).to_be_visible()
    expect(page.locator(".changes")).to_contain_text("The model is the same as before.")

    page.get_by_role("link", name="History").click()
    boxes = page.get_by_role("checkbox")
    expect(boxes).to_have_count(4)
    page.get_by_label("File name contains").fill("BLEND")
    page.get_by_role("button", name="Search").press("Enter")
    expect(boxes).to_have_count(1)
    page.get_by_label("File name contains").fill("nasa")
    page.get_by_label("Order").select_option("By name")
    page.get_by_role("button", name="Search").click()
    expect(boxes).to_have_count(4)

    boxes.nth(0).check()
    page.get_by_role("button", name="Compare two").click()
    expect(page.get_by_role("alert")).to_have_text("Choose exactly two results to compare.")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(boxes.nth(0)).to_be_checked()
    boxes.nth(3).check()
    page.get_by_role("button", name="Compare two").click()
    assert "token" not in page.url
    expect(page.get_by_role("row", name="SHA-256 of the file")).to_contain_text("different")
    expect(page.locator("svg.picture")).to_have_count(2)
    page.get_by_role("link", name="Back to the list").click()
    expect(page.get_by_label("File name contains")).to_have_value("nasa")

    boxes.nth(0).check()
    button = page.get_by_role("button", name="Yes, delete the chosen results")
    expect(button).to_be_hidden()
    page.locator("summary", has_text="Delete the chosen results").click()
    button.click()
    expect(page.get_by_role("status").first).to_contain_text("The result and its file have been deleted.")
    expect(boxes).to_have_count(3)
    page.locator("summary", has_text="Delete all results").click()
    page.get_by_role("button", name="Yes, delete all 3 results").click()
    expect(page.get_by_text("There are no results yet.")).to_be_visible()


def test_statistics_are_shown_to_their_owner_and_to_the_operator(page, face_file):
    check(page, face_file)
    page.get_by_role("link", name="Statistics").click()
    expect(page.get_by_role("img", name="Proportion of each verdict, for each kind of file: Pictures.")).to_be_visible()
    page.locator("summary", has_text="Verdicts in numbers").click()
    expect(page.get_by_role("row", name="Pictures")).to_contain_text("(100.0%)")
    page.goto("/operator")
    page.get_by_label("Operator’s token").fill("something else")
    page.get_by_role("button", name="Show the statistics").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the operator’s token.")
    page.get_by_label("Operator’s token").fill(OPERATOR_TOKEN)
    page.get_by_role("button", name="Show the statistics").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Statistics of all visitors")
    page.get_by_role("button", name="Leave the operator’s page").click()
    expect(page.get_by_label("Operator’s token")).to_be_visible()


@needs_voice_model
def test_a_video_is_analysed_while_its_page_waits(page, clip_file):
    check(page, clip_file)
    expect(page.get_by_role("progressbar")).to_be_visible()
    result = page.url
    page.goto("/")  # closing the page stops nothing
    page.get_by_role("link", name="trip.webm").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT, timeout=ANALYSIS_MS)
    assert page.url == result

    unfold(page, "The face")
    face = page.get_by_role("article").first
    expect(face.get_by_role("img", name="Timeline from 0:00 to 0:10")).to_be_visible()
    expect(face.get_by_role("listitem").filter(has_text="of the frames")).to_have_count(3)
    for picture in page.locator(".moments img").all():
        assert page.request.get(picture.get_attribute("src")).ok
    moment = face.locator(".moments a").last
    part = page.request.get(moment.get_attribute("href").partition("#")[0], headers={"Range": "bytes=100-199"})
    assert (part.status, len(part.body())) == (206, 100)

    delete(page, "video")
    expect(page.get_by_role("status").first).to_contain_text("deleted")
    assert page.goto(result).status == 404


@needs_voice_model
def test_a_moment_of_a_video_is_reached_by_key_and_by_mouse(scripted, clip_file):
    check(scripted, clip_file)
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT, timeout=ANALYSIS_MS)
    unfold(scripted, "The face")
    player = scripted.locator("#player")
    moment = scripted.locator(".moments a").last
    moment.focus()
    scripted.keyboard.press("Enter")
    expect(player).to_be_focused()
    expect(player).to_have_js_property("currentTime", float(moment.get_attribute("data-time")))
    frames = scripted.locator("details.inner").filter(has_text="All frames of face 1")
    frames.locator("summary").press("Enter")
    expect(frames.get_by_role("link")).to_have_count(
        scripted.locator(".over-time").first.locator("[data-time]").count()
    )
    frames.get_by_role("link").nth(2).press("Enter")
    expect(player).to_be_focused()
    expect(player).to_have_js_property(
        "currentTime", float(frames.get_by_role("link").nth(2).get_attribute("data-time"))
    )
    drawing = scripted.locator(".over-time").first
    drawing.click(position={"x": 0.8 * drawing.bounding_box()["width"], "y": 3})  # above the bars
    assert player.evaluate("player => Math.abs(player.currentTime - 8) < 0.2")
    expect(drawing.locator(".playhead")).to_be_visible()
    assert player.evaluate("player => player.error") is None
    scripted.set_viewport_size({"width": 320, "height": 640})
    assert_it_fits_and_can_be_read(scripted)


@needs_voice_model
def test_a_recording_is_analysed_and_displayed(page, sound_file):
    check(page, sound_file)
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT, timeout=ANALYSIS_MS)
    for picture in page.locator(".spectrogram img").all():
        assert page.request.get(picture.get_attribute("src")).ok
    expect(page.get_by_role("img", name="Spectrogram: time from left to right")).to_be_visible()
    unfold(page, "Score of each part")
    expect(page.get_by_role("img", name=re.compile(r"Scores of \d+ parts"))).to_be_visible()
    expect(page.locator(".spectrogram .heat")).to_be_hidden()
    page.get_by_label("Show the heat map").check()
    expect(page.locator(".spectrogram .heat")).to_be_visible()
    page.set_viewport_size({"width": 320, "height": 640})
    assert_it_fits_and_can_be_read(page)
    delete(page, "recording")
    expect(page.get_by_role("status").first).to_contain_text("deleted")


@needs_voice_model
def test_a_job_is_cancelled_and_begun_again(page, clip_file):
    check(page, clip_file)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT, timeout=ANALYSIS_MS)


def test_a_video_that_cannot_be_analysed_says_why(page, tmp_path, clip_file):
    (tmp_path / "broken.webm").write_bytes(clip_file.read_bytes()[:60])
    check(page, tmp_path / "broken.webm")
    expect(page.get_by_role("alert")).to_contain_text("damaged or cut off", timeout=ANALYSIS_MS)
    delete(page, "video")
    expect(page.get_by_role("status").first).to_contain_text("deleted")


def test_evidence_for_a_picture_is_shown_checked_and_downloaded(scripted, face_file, real_detector):
    check(scripted, face_file)
    for name in ("Explanation of the score", "Is the verdict stable?", "Origin of the file"):
        expect(scripted.get_by_role("heading", name=name)).to_be_visible()
    unfold(scripted, "Explanation of the score")
    scripted.get_by_role("button", name="Check the explanation").click()
    expect(scripted.get_by_text("LIME, a second opinion")).to_be_visible(timeout=ANALYSIS_MS)
    expect(scripted.get_by_role("button", name="Check the explanation")).to_have_count(0)
    unfold(scripted, "Download the evidence")
    with scripted.expect_download() as download:
        scripted.get_by_role("button", name="Download the evidence").click()
    assert verify_bundle(Path(download.value.path()).read_bytes(), real_detector).differences == ()


def test_robustness_is_tested_by_a_button_without_script(chromium, address, face_file):
    with opened(chromium, address, java_script_enabled=False) as page:
        check(page, face_file)
        unfold(page, "Is the verdict stable?")
        page.get_by_role("button", name="Test the stability").click()
        expect(page).to_have_url(re.compile("#robustness$"))
        expect(page.locator("svg.robustness circle")).to_have_count(10)
        expect(page.get_by_role("button", name="Test the stability")).to_have_count(0)


def test_robustness_is_tested_when_its_section_is_unfolded(scripted, face_file):
    requests = []
    scripted.on("request", lambda request: requests.append(request.url) if request.method == "POST" else None)
    check(scripted, face_file)
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT)
    assert not [url for url in requests if url.endswith("/robustness")]
    unfold(scripted, "Is the verdict stable?")
    expect(scripted.locator("svg.robustness circle")).to_have_count(10, timeout=60_000)
    assert len([url for url in requests if url.endswith("/robustness")]) == 1
    scripted.reload()  # the scores are stored
    expect(scripted.locator("svg.robustness circle")).to_have_count(10)


def test_robustness_is_tested_though_its_section_is_unfolded_before_the_script_arrives(scripted, face_file):
    held = []
    scripted.route("**/robustness.js*", lambda route: held.append(route))
    check(scripted, face_file)
    unfold(scripted, "Is the verdict stable?")
    expect(scripted.get_by_role("button", name="Test the stability")).to_be_visible()
    held[0].continue_()
    expect(scripted.locator("svg.robustness circle")).to_have_count(10, timeout=60_000)


def test_a_failed_robustness_test_leaves_the_button(scripted, face_file):
    scripted.route("**/robustness", lambda route: route.fulfill(status=418, body="busy"))
    check(scripted, face_file)
    unfold(scripted, "Is the verdict stable?")
    expect(scripted.locator("#robustness-progress")).to_have_text("The test could not be run. Please try again.")
    scripted.unroute("**/robustness")
    scripted.get_by_role("button", name="Test the stability").click()
    expect(scripted.locator("svg.robustness circle")).to_have_count(10, timeout=60_000)


@pytest.mark.parametrize(
    ("button", "truth"),
    [
        ("Try a real portrait", "NASA"),
        ("Try a fake of it", "made for this project"),
        ("Try a fake it does not find", "enlarged eyes"),
        pytest.param("Try a video", "six seconds", marks=needs_voice_model),
        pytest.param("Try an artificial voice", "a formula hums", marks=needs_voice_model),
    ],
)
def test_samples(page, button, truth):
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)
    expect(page.locator("header.verdict")).to_contain_text(truth)


def test_an_error_is_shown_and_the_form_stays(page, tmp_path, face_file):
    (tmp_path / "notes.jpg").write_text("no picture at all")
    check(page, tmp_path / "notes.jpg")
    expect(page.get_by_role("alert")).to_contain_text("The file is plain text")
    expect(page.get_by_role("alert")).to_be_focused()
    check(page, face_file)
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)


def test_the_heat_map_is_shown_on_request(page, face_file):
    check(page, face_file)
    heat, words = page.locator("svg .heat").first, page.locator(".heat-words")
    expect(heat).to_be_hidden()
    expect(words).to_be_hidden()
    page.get_by_label("Show the heat map").check()
    expect(heat).to_be_visible()
    expect(words).to_contain_text("Not tested:")
    page.get_by_label("Show the heat map").uncheck()
    expect(heat).to_be_hidden()


def test_the_heat_map_has_a_slider(scripted, face_file):
    check(scripted, face_file)
    scripted.get_by_label("Show the heat map").check()
    scripted.get_by_label("Strength").fill("20")
    expect(scripted.locator("svg .heat").first).to_have_css("opacity", "0.2")


def test_a_file_over_the_limit_is_refused_before_and_after_sending(page, tmp_path):
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(5_000_000))
    check(page, tmp_path / "large.jpg")
    expect(page.get_by_role("alert")).to_contain_text("at most 2 MB are accepted")
    sent = page.url.endswith("/analyses")
    assert sent is (page.locator("html.scripted").count() == 0)


def test_a_chosen_picture_is_previewed_and_the_form_gets_busy(scripted, face_file):
    scripted.get_by_label("Choose a picture").set_input_files(face_file)
    preview = scripted.locator("#preview")
    expect(preview).to_be_visible()
    assert preview.evaluate("image => [image.naturalWidth, image.src.slice(0, 5)]") == [512, "blob:"]
    expect(scripted.locator("#drop-zone")).to_contain_text("me.jpg")

    # held back until the busy state has been seen
    scripted.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    scripted.get_by_role("button", name="Check this file").click()
    expect(scripted.locator("#upload-status")).to_have_text("The file is being checked.")
    expect(scripted.locator("#uploader .spinner")).to_be_visible()
    scripted.evaluate("document.getElementById('uploader').submit()")
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT)


def test_a_chosen_recording_can_be_played_and_its_upload_is_shown_in_the_button(
    scripted, clip_file, sound_file, tmp_path
):
    chooser, button = scripted.locator("#file"), scripted.locator("#send")
    for file, shown, hidden in ((clip_file, "video", "audio"), (sound_file, "audio", "video")):
        chooser.set_input_files(file)
        player = scripted.locator(f"#{shown}-preview")
        expect(player).to_be_visible()
        assert player.evaluate("player => [player.src.slice(0, 5), player.duration > 1]") == ["blob:", True]
        expect(scripted.locator(f"#{hidden}-preview")).to_be_hidden()

    large = tmp_path / "large.wav"  # from 5 MB on the button counts
    large.write_bytes(b"RIFF" + bytes(6_000_000))
    chooser.set_input_files(large)
    scripted.evaluate(
        """() => {
            window.words = [];
            const label = document.getElementById("upload-label");
            const note = (change) => words.push(change.addedNodes[0].textContent);
            new MutationObserver((changes) => changes.forEach(note)).observe(label, { childList: true });
            XMLHttpRequest.prototype.send = function () { // the network's part, held back
                for (const loaded of [25, 100]) {
                    this.upload.dispatchEvent(new ProgressEvent("progress", { loaded, total: 100 }));
                }
            };
        }"""
    )
    button.click()
    assert scripted.evaluate("words") == ["Sending: 25%", "Sent, please wait"]


def test_a_picture_the_browser_cannot_show_is_still_sent(scripted, astronaut, tmp_path):
    astronaut.save(tmp_path / "scan.tiff")
    scripted.get_by_label("Choose a picture").set_input_files(tmp_path / "scan.tiff")
    expect(scripted.locator("#drop-zone")).to_contain_text("scan.tiff")
    expect(scripted.locator("#preview")).to_be_hidden()
    scripted.get_by_role("button", name="Check this file").click()
    expect(scripted.get_by_role("img", name="scan.tiff: 1 face found")).to_be_visible()


@pytest.mark.parametrize("gesture", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(scripted, face_jpeg, gesture):
    carried = scripted.evaluate_handle(
        """bytes => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "carried.jpg", { type: "image/jpeg" }));
            return carried;
        }""",
        list(face_jpeg),
    )
    if gesture == "drop":
        for event in ("dragenter", "dragover", "drop"):
            scripted.dispatch_event("body", event, {"dataTransfer": carried})
    else:
        scripted.evaluate(
            "data => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))", carried
        )
    expect(scripted.locator("#preview")).to_be_visible()
    scripted.get_by_role("button", name="Check this file").click()
    expect(scripted.get_by_role("img", name="carried.jpg: 1 face found")).to_be_visible()


@pytest.fixture
def several_files(tmp_path, face_jpeg, astronaut):
    """A picture, a smaller one, a text and a folder with one picture, in a folder."""
    folder = tmp_path / "Party"
    (folder / "evening").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(face_jpeg)
    astronaut.resize((300, 300)).save(folder / "b.png")
    (folder / "notes.txt").write_text("just some words")
    (folder / "evening" / "c.jpg").write_bytes(face_jpeg)
    return folder


def test_several_files_fill_a_table_and_are_deleted_together(page, several_files):
    page.locator("#file").set_input_files([several_files / name for name in ("a.jpg", "b.png", "notes.txt")])
    page.locator("#send").click()
    wait_for_batch(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("3 files")
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(2)).to_contain_text("The file is plain text")
    for picture in page.locator("#rows img").all():
        assert page.request.get(picture.get_attribute("src")).ok
    page.get_by_role("link", name="File", exact=True).click()
    page.get_by_role("link", name="File", exact=True).click()
    expect(page.locator("#rows .file-name")).to_have_text(["notes.txt", "b.png", "a.jpg"])
    expect(page.get_by_role("columnheader", name="File", exact=True)).to_have_attribute("aria-sort", "descending")
    for name in ("CSV", "JSON", "Excel", "PDF"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        assert Path(download.value.path()).stat().st_size > 500
    page.get_by_label("Verdict", exact=True).select_option(label="Failed")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#rows .file-name")).to_have_text(["notes.txt"])
    page.get_by_role("link", name="Show all").click()
    page.get_by_role("link", name="b.png").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(VERDICT)

    page.goto("/history")
    page.get_by_role("link", name="Uploads of several files").click()
    page.get_by_role("link", name="3 files").click()
    batch = page.url
    button = page.get_by_role("button", name="Yes, delete all files")
    expect(button).to_be_hidden()
    page.locator(".deletion > summary").click()
    button.click()
    expect(page.get_by_role("status").first).to_contain_text("have been deleted")
    assert page.goto(batch).status == 404


def test_a_folder_is_chosen_by_its_own_button(scripted, several_files):
    with scripted.expect_file_chooser() as chooser:
        scripted.get_by_label("Choose a folder").click()
    chooser.value.set_files(several_files)
    expect(scripted.locator("#drop-title")).to_have_text("4 files")
    scripted.get_by_role("button", name="Check 4 files").click()
    wait_for_batch(scripted)
    expect(scripted.get_by_role("heading", level=1)).to_have_text("Party")
    names = {"Party/a.jpg", "Party/b.png", "Party/notes.txt", "Party/evening/c.jpg"}
    assert set(scripted.locator("#rows .file-name").all_text_contents()) == names


def test_every_dropped_file_is_sent(scripted, face_jpeg):
    carried = scripted.evaluate_handle(
        """bytes => {
            const carried = new DataTransfer();
            const data = new Uint8Array(bytes);
            for (const name of ["one.jpg", "two.jpg"]) {
                carried.items.add(new File([data], name, { type: "image/jpeg" }));
            }
            return carried;
        }""",
        list(face_jpeg),
    )
    scripted.dispatch_event("body", "drop", {"dataTransfer": carried})
    expect(scripted.locator("#preview")).to_be_hidden()
    scripted.get_by_role("button", name="Check 2 files").click()
    wait_for_batch(scripted)
    assert scripted.locator("#rows .file-name").all_text_contents() == ["one.jpg", "two.jpg"]


def test_a_dropped_folder_is_sent_with_its_paths(scripted, face_jpeg):
    """Chromium gives no script a real folder to drop, so its reader is replaced; what follows is the page's own."""
    scripted.evaluate(
        """bytes => {
            const file = new File([new Uint8Array(bytes)], "a.jpg", { type: "image/jpeg" });
            const entry = { isFile: true, fullPath: "/Trip/day 1/a.jpg", file: (give) => give(file) };
            const folder = (fullPath, entries) => ({
                isDirectory: true, fullPath,
                createReader: () => ({ readEntries: (give) => give(entries.splice(0, 1)) }),
            });
            const other = { ...entry, fullPath: "/Trip/b.jpg" };
            const trip = folder("/Trip", [folder("/Trip/day 1", [entry]), other]);
            const event = new DragEvent("drop", { bubbles: true, cancelable: true });
            const dataTransfer = { types: ["Files"], files: [], items: [{ webkitGetAsEntry: () => trip }] };
            Object.defineProperty(event, "dataTransfer", { value: dataTransfer });
            document.body.dispatchEvent(event);
        }""",
        list(face_jpeg),
    )
    scripted.get_by_role("button", name="Check 2 files").click()
    wait_for_batch(scripted)
    assert scripted.locator("#rows .file-name").all_text_contents() == ["Trip/day 1/a.jpg", "Trip/b.jpg"]


def test_too_many_files_are_refused_before_they_are_sent(scripted):
    requests = []
    scripted.on("request", lambda request: requests.append(request) if request.method == "POST" else None)
    scripted.locator("#file").set_input_files(
        [{"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": b"x"} for i in range(501)]
    )
    expect(scripted.get_by_role("alert")).to_have_text("There are 501 files; at most 500 are accepted at once.")
    scripted.locator("#send").click()
    assert requests == []


def test_the_keyboard_is_enough(scripted, face_file):
    scripted.on("filechooser", lambda chooser: None)  # from here on, or the key may come before the browser listens
    scripted.keyboard.press("Tab")
    expect(scripted.get_by_role("link", name="Skip to the content")).to_be_focused()
    scripted.keyboard.press("Enter")
    scripted.keyboard.press("Tab")
    expect(scripted.get_by_label("Choose a picture")).to_be_focused()
    assert scripted.locator("#drop-zone").evaluate("zone => getComputedStyle(zone).outlineStyle") == "solid"
    with scripted.expect_file_chooser(timeout=5000) as chooser:
        scripted.keyboard.press("Space")
    chooser.value.set_files(face_file)
    scripted.keyboard.press("Tab")
    expect(scripted.get_by_label("Choose a folder")).to_be_focused()
    for name in ("Take a picture", "Record a video", "Record a voice", "Check this file"):
        scripted.keyboard.press("Tab")
        expect(scripted.get_by_role("button", name=name)).to_be_focused()
    scripted.keyboard.press("Enter")
    expect(scripted.get_by_role("heading", level=1)).to_have_text(VERDICT)


def test_a_result_is_printed_unfolded_and_without_buttons(scripted, face_file):
    check(scripted, face_file)
    number = scripted.get_by_text("SHA-256 of the model")
    expect(number).to_be_hidden()
    scripted.emulate_media(media="print")
    expect(number).to_be_visible()
    for name in ("Yes, delete the picture", "Check the explanation", "Test the stability", "Download the evidence"):
        expect(scripted.locator("button", has_text=name).first).to_be_hidden()
    paper = scripted.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) <= 2
