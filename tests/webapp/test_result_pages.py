"""Pages of results that are stored by hand, so that every verdict, reason and medium can be shown without a network."""

import re

import pytest
from stored_results import explained, face, picture, rate, video, voice

from detector.media import MEDIA
from detector.reports import UNMEASURED, advice, map_caption, suggestion_sentence
from detector.reports.phrases import UNCHECKED_PHRASES
from detector.results import Reason, Verdict
from detector.text import format_probability

UNCHECKED = [
    *((picture, reason) for reason in (Reason.TOO_SMALL, Reason.TOO_BLURRED, Reason.TOO_DARK, Reason.DRAWING)),
    *((voice, reason) for reason in (Reason.SILENT, Reason.NOISY, Reason.NO_SPEECH, Reason.TOO_SHORT)),
    (video, Reason.TOO_FEW_FRAMES),
]


@pytest.mark.parametrize(("make", "reason"), UNCHECKED, ids=lambda value: str(getattr(value, "__name__", value)))
def test_what_could_not_be_checked_has_no_number_to_read(show, make, reason):
    faces = {"faces": [face((100, 80, 120, 150), reasons=[reason])]} if make is picture else {}
    page = show(make(reasons=[reason], **faces))
    assert f"<h1>Could not be checked: {UNCHECKED_PHRASES[reason]}</h1>" in page
    assert suggestion_sentence(reason) in page
    readable = re.sub(r' [xy]="[^"]*"', "", page)  # an axis of time or pitch is no score
    assert not re.search(r"43(\.2)?%|20%|80%|probability", readable, re.IGNORECASE)
    assert not re.search(r'class="(scale|heat|timeline|bar|votes|moments|times)[ "]|/files/heatmap', page)
    assert "How often is it wrong?" not in page and "Experimental" not in page


def test_a_picture_without_a_face_has_no_number_to_read(show):
    page = show(picture(faces=[], reasons=[Reason.NO_FACE]))
    assert "<h1>Could not be checked: no face found</h1>" in page
    assert "%" not in re.sub(r'="[^"]*"', "", page)


@pytest.mark.parametrize("make", [picture, voice, video])
def test_what_was_checked_has_its_number(show, make):
    page = show(make(reasons=[Reason.BETWEEN_THRESHOLDS]))
    assert "<h1>Inconclusive</h1>" in page and "43%" in page


def test_an_excluded_face_beside_a_checked_one_has_no_number(show):
    faces = [face((100, 80, 120, 150)), face((400, 80, 20, 20), probability=0.9137, reasons=[Reason.TOO_SMALL])]
    page = show(picture(faces=faces, reasons=[Reason.BETWEEN_THRESHOLDS]))
    assert "43%" in page and "91.4%" not in page and "The face is too small" in page
    assert "heatmap-0.png" in page and "heatmap-1.png" not in page


def test_unchecked_sound_beside_a_checked_face_has_no_number(show):
    sound = voice(probability=0.0251, reasons=[Reason.NOISY])
    page = show(video("real", probability=0.1234, sound=sound))
    assert "12%" in page and "2.5%" not in page and "heatmap-sound" not in page
    assert "Could not be checked" in page and "music" in page


def test_the_latest_results_say_what_was_not_checked(show, client):
    show(picture(faces=[], reasons=[Reason.NO_FACE]))
    assert "Could not be checked" in client.get("/").text and "Inconclusive</span>" not in client.get("/").text


@pytest.mark.parametrize("make", [picture, voice])
def test_one_error_sentence_stands_under_the_headline(show, make):
    page = show(make("real", probability=0.1, rates=[rate("real", 0.3), rate("fake", 0.12)]))
    found = re.search('</h1> <p class="verdict-error">(.*?)</p>', page)[1]
    opening = "On (kinds of fakes it had not seen|generators it had not heard)"
    assert re.fullmatch(rf"{opening}, 12 of 100 \w+( \w+)? (looked|sounded) this real\.", found)
    assert "in 1,000" not in page.partition('id="advice"')[0]


def test_without_rates_the_page_says_that_they_were_not_measured(show):
    assert f'<p class="verdict-error">{UNMEASURED}</p>' in show(picture("real", probability=0.1))


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("make", [picture, voice, video])
def test_a_page_says_what_to_do(show, make, verdict):
    reasons = [Reason.BETWEEN_THRESHOLDS] if verdict is Verdict.INCONCLUSIVE else []
    page = show(make(verdict, reasons=reasons))
    lines = re.findall("<li>(.*?)</li>", re.search('<ol class="advice">.*?</ol>', page)[0])
    said = advice(verdict, make(verdict).media, reasons)
    assert [line.split("<")[0].strip() for line in lines] == list(said)
    assert (re.findall('href="https://(.*?)"', page) != []) is (make is not voice)
    assert '<p class="estimate">Our estimate</p> <h1>' in page
    assert "Our estimate" not in show(make(verdict, reasons=[Reason.NO_FACE]))


@pytest.mark.parametrize(
    ("verdict", "probability", "zone"),
    [("real", 0.0513, "leans real"), ("inconclusive", 0.7411, "inconclusive"), ("deepfake", 0.9733, "leans fake")],
)
@pytest.mark.parametrize("make", [picture, voice])
def test_a_scale_shows_the_zone_and_the_percentage_is_under_the_details(show, make, verdict, probability, zone):
    reasons = [Reason.BETWEEN_THRESHOLDS] if verdict == "inconclusive" else []
    page = show(make(verdict, probability=probability, reasons=reasons))
    item = "picture" if make is picture else "recording"
    assert f"This {item} lies in the zone “{zone}”" in page and page.count('class="band"') == 1
    first, details = page.split('id="score"')
    number = format_probability(probability)
    assert number in details and "1.5000" in details and "up to 20%" in details
    assert number not in re.sub("<figure.*?</figure>", "", first)


@pytest.mark.parametrize("matters", [None, True, False])
def test_the_heat_map_is_off_and_its_caption_says_where_it_lies_and_how_it_was_tested(show, matters):
    detection = picture("deepfake", probability=0.97)
    page = show(detection, result=explained(detection, matters=matters))
    assert re.search(r'<input type="checkbox" id="show-heat"(?![^>]*\bchecked)', page)
    caption = map_caption("The evidence of a fake lies mostly in the mouth.", matters)
    assert re.search(rf'class="heat-words">[^<]*{re.escape(caption)}', page)
    assert "65%" not in page and page.count(caption) == 2


def test_the_heat_map_of_a_voice_is_off(show):
    page = show(voice("real", probability=0.1))
    assert re.search(r'<input type="checkbox" id="show-heat"(?![^>]*\bchecked)', page)


@pytest.mark.parametrize("make", [picture, voice, video])
def test_the_details_are_folded_and_the_actions_stand_at_the_top_and_at_the_bottom(show, make):
    page = show(make("real", probability=0.1, rates=[rate("fake", 0.12)]))
    first, rest = page.split('<div class="parts">')
    assert re.findall("<h2[^>]*>(.*?)</h2>", first) == [f"Where this {MEDIA[make().media].item} lies", "What to do now"]
    headings = re.findall("<h2[^>]*>(.*?)</h2>", rest)
    parts = re.findall(r'<details class="card part"> <summary><h2 id="\w+">(.*?)</h2></summary>', rest)
    assert parts == headings and headings[0] == "Details of the score" and headings[-1] == "The file"
    assert page.count('class="deletion"') == page.count("Check another<span") == 2
    assert first.count('class="action-row"') == rest.count('class="action-row"') == 1


@pytest.mark.parametrize("matters", [None, True])
def test_a_part_that_was_requested_is_unfolded(show, matters):
    page = show(picture("deepfake"), result=explained(picture("deepfake"), matters=matters))
    assert ('<details class="card part" open> <summary><h2 id="explanation">' in page) is (matters is not None)


def test_numbers_stand_on_the_picture_and_a_list_beside_it(show):
    faces = [
        *(face((20, 80, 60, 60), probability=0.96), face((200, 80, 60, 60), probability=0.51)),
        *(face((400, 80, 60, 60), probability=0.01), face((500, 300, 9, 9), reasons=[Reason.TOO_SMALL])),
    ]
    page = show(picture("deepfake", probability=0.96, faces=faces))
    drawing = re.search(r'<svg class="picture".*?</svg>', page)[0]
    assert sorted(re.findall("<text[^>]*>(.*?)</text>", drawing)) == ["1", "2", "3", "4"]
    assert re.findall("<li>(.*?)</li>", re.search('class="face-list">(.*?)</ol>', page)[0]) == [
        *("Leans fake", "Inconclusive", "Leans real", "Could not be checked: the face is too small")
    ]
    assert "% fake" not in page and "P(fake)" in page
