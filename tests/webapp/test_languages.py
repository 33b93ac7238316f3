"""The pages' languages: how one is chosen, that German is complete, and that no text is left unmarked."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import session
from project import ROOT

import webapp.languages
from detector.reports import advice, error_rate_origin, headline, reason_sentence, verdict_error_sentence
from detector.results import Reason, Verdict
from webapp.languages import LANGUAGES, translate

GERMAN = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.5"}
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))
FOLDER = Path(webapp.languages.__file__).parent / "translations"
TEXT_ATTRIBUTES = {"alt", "aria-label", "placeholder", "title"}
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}")
JINJA = re.compile(r"\{#.*?#\}|\{%-?\+?\s*trans\b.*?endtrans\s*\+?-?%\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
SYMBOLS = {"n", "MB", "EXIF", "XMP"}  # the same in every language


@pytest.fixture(params=[code for code in LANGUAGES if code != "en"])
def catalogue(request):
    with open(FOLDER / request.param / "LC_MESSAGES" / "messages.po", "rb") as file:
        return read_po(file, locale=request.param)


class Texts(HTMLParser):
    """Collects what a person reads in a template whose Jinja parts are cut out."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.found += [value for name, value in attributes if name in TEXT_ATTRIBUTES and value]

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "code" not in self.open:
            self.found.append(data)


def unmarked_texts(template):
    """Return the words in a template that no message marks."""
    parser = Texts()
    parser.feed(JINJA.sub(" ", template))
    return {word for text in parser.found for word in re.findall(r"[A-Za-z]{2,}", text)} - SYMBOLS


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_unmarked_text(path):
    assert unmarked_texts(path.read_text()) == set()


def test_unmarked_text_is_found():
    assert unmarked_texts('<p title="Look">Some {{ _("marked") }} text<code>x.py</code></p>') == {
        "Look",
        "Some",
        "text",
    }


def test_every_message_is_translated(catalogue):
    options = {"trimmed": "true"}
    methods = [("detector/**.py", "python"), ("webapp/**.py", "python"), ("templates/**.html", "jinja2")]
    keywords = {"translatable": None, "_": None, "gettext": None, "ngettext": (1, 2)}
    found = extract_from_dir(
        str(ROOT),
        methods,
        {pattern: options for pattern, _ in methods},
        keywords=keywords,
        directory_filter=lambda folder: (
            Path(folder).name in {ROOT.name, "detector", "webapp", "templates"}
            or Path(folder).is_relative_to(ROOT / "detector")
            or Path(folder).is_relative_to(ROOT / "webapp")
        ),
    )
    messages = {message if isinstance(message, str) else message[0] for _, _, message, _, _ in found}
    translated = {m.id if isinstance(m.id, str) else m.id[0] for m in catalogue if m.id and m.string and not m.fuzzy}
    assert len(messages) > 500 and messages <= translated, sorted(messages - translated)


def test_translations_have_the_placeholders_of_their_message(catalogue):
    for message in catalogue:
        ids, texts = ((x,) if isinstance(x, str) else tuple(x) for x in (message.id, message.string))
        wanted = {name for each in ids for name in PLACEHOLDER.findall(each)}
        for text in texts:
            kept = set(PLACEHOLDER.findall(text))
            # A language may leave out the kind of file where its gender would not fit.
            assert kept <= wanted and {name for name in wanted - kept if "item" not in name} == set(), message.id


def test_the_compiled_catalogue_is_up_to_date(catalogue):
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    path = FOLDER / str(catalogue.locale) / "LC_MESSAGES" / "messages.mo"
    assert path.read_bytes() == compiled.getvalue(), "run make translations"


def test_pages_follow_the_browser(client):
    page = client.get("/", headers=GERMAN)
    assert '<html lang="de">' in page.text and "Echtes Gesicht oder Deepfake?" in page.text
    assert page.headers["Content-Language"] == "de" and "Accept-Language" in page.headers["Vary"]
    page = client.get("/", headers={"Accept-Language": "fr"})
    assert '<html lang="en">' in page.text and "Real face or deepfake?" in page.text
    assert page.headers["Content-Language"] == "en"


def test_the_link_in_the_footer_chooses_a_language(client):
    address = re.search(r'<a href="([^"]+)" lang="de"', client.get("/performance").text)[1]
    assert client.get(f"/performance{address}").headers["Location"] == "/performance"
    assert '<html lang="de">' in client.get("/performance").text
    back = re.search(r'<a href="([^"]+)" lang="en"', client.get("/", headers=GERMAN).text)[1]
    assert '<html lang="en">' in client.get(f"/{back}", headers=GERMAN, follow_redirects=True).text


def test_an_unknown_language_is_not_kept(client):
    with client:
        assert client.get("/?language=xx").status_code == 200
        assert "language" not in session


def test_errors_are_in_the_pages_language(client):
    assert "Seite nicht gefunden" in client.get("/nothing", headers=GERMAN).text


@pytest.fixture
def in_german(app):
    with app.test_request_context(headers=GERMAN):
        yield


@pytest.mark.usefixtures("in_german")
def test_numbers_have_the_marks_of_the_language():
    assert translate("1,204") == "1.204"
    assert translate("10.9%") == "10,9\N{NO-BREAK SPACE}%"
    assert (
        translate("3.1% (2.2%\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}4.3%)").replace("\xa0", " ")
        == "3,1 % (2,2 % bis 4,3 %)"
    )


@pytest.mark.usefixtures("in_german")
@pytest.mark.parametrize("name", ["portrait of Tom and Jerry.png", "stylegan1", "", "Dr. Who. Part 2"])
def test_names_are_not_translated(name):
    assert translate(name) == name


RATES = [
    {"kind": kind, "share": 0.5, "low": 0.4, "high": 0.6, "n": 1204, "unseen": unseen, "min_px": 0, "max_px": None}
    for kind in ("real", "fake")
    for unseen in (False, True)
]


@pytest.mark.usefixtures("in_german")
@pytest.mark.parametrize("media", ["image", "video", "audio"])
def test_sentences_of_the_detector_are_translated_whole(media):
    sentences = [reason_sentence(reason) for reason in Reason]
    sentences += [headline(verdict, media) for verdict in Verdict] + [headline("inconclusive", media, ["no_face"])]
    sentences += [line for verdict in Verdict for line in advice(verdict, media)]
    sentences += [error_rate_origin(rate, media) for rate in RATES]
    sentences += [verdict_error_sentence([rate], media) for rate in RATES]
    sentences += [verdict_error_sentence([RATES[place], RATES[place + 2]], media) for place in (0, 1)]
    for sentence in sentences:
        german = translate(sentence)
        assert german != sentence
        assert not re.search(r"\b(the|of|this|not|is|and|looked|sounded|pictures|recordings)\b", german), german


def test_english_is_not_touched(app):
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert translate("10.9%") == "10.9%" and translate("Inconclusive") == "Inconclusive"
    assert translate("Inconclusive") == "Inconclusive"  # outside of a request, such as on the command line
