"""The languages of the pages: which one a visitor reads, and texts of Python in that language.

Python computes English sentences, for records, reports and the command line as well. The filter `translated` puts them
into the page's language: it finds them in the catalogue as they are, or as one of its messages with {placeholders}.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from babel.numbers import get_decimal_symbol, get_group_symbol
from babel.support import NullTranslations
from flask import Flask, Response, has_request_context, redirect, request, session, url_for
from flask_babel import Babel, get_locale, get_translations
from werkzeug.wrappers import Response as Redirection

from detector.text import translatable
from webapp.api.problems import is_for_programs

LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
}  # by code: the language's own name; the first is that of the source texts
SOURCE_LANGUAGE = next(iter(LANGUAGES))
SESSION_KEY = PARAMETER = "language"
FEWEST_LETTERS = 8  # of a message that fits a text whatever its placeholders hold
# Words beside numbers, such as "at most 2" or "87 (70 to 106)".
QUANTITY_WORDS = (
    translatable("fewer than"),
    translatable("at most"),
    translatable("interval"),
    translatable("under"),
    translatable("over"),
    translatable("none"),
    translatable("bytes"),
    translatable("to"),
)
# The end of an error about a file of an unsupported kind, which the detector composes of its table of media.
SUPPORTED_FORMATS = translatable(
    "Use JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF pictures. Or use MP4, MOV, WebM, MKV and AVI videos, or WAV, "
    "FLAC, MP3, OGG and M4A sound."
)
_LOCAL_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?%?(?![\w.]\d)")
_QUANTITY = re.compile(rf"(?:{'|'.join(QUANTITY_WORDS)}|n =|P\(fake\)|[kM]B|m?s|[-–\d.,:;%()\s×])+")
_QUANTITY_WORD = re.compile("|".join(rf"\b{word}\b" for word in QUANTITY_WORDS))
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z“\d])")
_LIST_MARKS = ("; ", ", ")


def register_languages(app: Flask) -> None:
    """Make the pages follow the visitor's language, and offer `translated` and the languages' links to templates."""
    Babel(app, default_locale=SOURCE_LANGUAGE, locale_selector=select_language)
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    app.add_template_filter(translate, "translated")
    app.before_request(remember_language)
    app.after_request(add_language_headers)
    app.context_processor(
        lambda: {"language": page_language(), "languages": LANGUAGES, "language_address": language_address}
    )


def select_language() -> str:
    """Return the code of the language that the visitor chose, or else the best that the browser accepts."""
    if not has_request_context():
        return SOURCE_LANGUAGE
    chosen = session.get(SESSION_KEY)
    return chosen if chosen in LANGUAGES else request.accept_languages.best_match(LANGUAGES, SOURCE_LANGUAGE)


def page_language() -> str:
    """Return the code of the language of the page that is being made; the source language outside of a request."""
    return get_locale().language if has_request_context() else SOURCE_LANGUAGE


def remember_language() -> Redirection | None:
    """Keep the language of a link in the session, and lead to the same page without the parameter."""
    language = request.args.get(PARAMETER)
    if language not in LANGUAGES or request.method != "GET" or is_for_programs():
        return None
    session[SESSION_KEY] = language
    if request.endpoint is None:
        return None  # the page that says that there is no such page
    return redirect(url_for(request.endpoint, **(request.view_args or {})), 303)


def language_address(language: str) -> str:
    """Return the address of this page in another language; of the start page if this one answers a form."""
    return f"{'' if request.method == 'GET' else url_for('pages.upload')}?{PARAMETER}={language}"


def add_language_headers(response: Response) -> Response:
    """Say in which language a page is, and that it depends on the browser's languages."""
    if response.mimetype == "text/html":
        response.content_language.add(page_language())
        response.vary.add("Accept-Language")
    return response


def translate(text: Any) -> Any:
    """Return an English text of Python in the page's language, with the numbers in it.

    Args:
        text: sentences, words or numbers. What the catalogue does not have is returned as it is, such as a name.
    """
    language = page_language()
    if language == SOURCE_LANGUAGE or not isinstance(text, str) or not text:
        return text
    return _translate(text, get_translations(), language)


def _translate(text: str, catalogue: NullTranslations, language: str) -> str:
    """Return a text in the language: as many sentences as one message has, then the rest."""
    if _QUANTITY.fullmatch(text):
        words = _QUANTITY_WORD.sub(lambda word: str(catalogue.ugettext(word[0])), text)
        return localize_numbers(words, language)
    sentences = _SENTENCE_END.split(text)
    for count in range(len(sentences), 0, -1):
        found = _translate_message(" ".join(sentences[:count]), count, catalogue, language)
        if found is not None:
            rest = " ".join(sentences[count:])
            return f"{found} {_translate(rest, catalogue, language)}" if rest else found
    first, *others = sentences
    if others:
        return f"{first} {_translate(' '.join(others), catalogue, language)}"
    for mark in _LIST_MARKS:
        if mark in text and not text.endswith("."):
            return mark.join(_translate(part, catalogue, language) for part in text.split(mark))
    return text


def _translate_message(text: str, n_sentences: int, catalogue: NullTranslations, language: str) -> str | None:
    """Return the translation of one message; None if the catalogue has none like it."""
    for sentence, end in ((text, ""), (text.removesuffix("."), ".")):
        found: str = catalogue.ugettext(sentence)
        if found != sentence:
            return found + end if sentence + end == text else found
    initial = text[:1].lower() + text[1:]
    if initial != text and (found := catalogue.ugettext(initial)) != initial:
        return found[:1].upper() + found[1:]
    if _LIST_MARKS[0] in text and not text.endswith("."):
        return None
    for known in _patterns(catalogue).get(n_sentences, ()):
        if not (values := known.pattern.fullmatch(text)):
            continue
        parts = {
            name: value if f"“{{{name}}}" in known.message else _translate(value, catalogue, language)
            for name, value in values.groupdict().items()
        }
        # A message of hardly more than placeholders, such as "{first} and {second}", also fits names.
        if known.n_letters >= FEWEST_LETTERS or all(parts[name] != value for name, value in values.groupdict().items()):
            return known.translation.format(**parts)
    return None


@dataclass(frozen=True)
class _Pattern:
    """A message with {placeholders}.

    Attributes:
        pattern: matches texts that fill in the message.
        message: the English text.
        translation: the text in the page's language.
        n_letters: number of characters beside the placeholders.
    """

    pattern: re.Pattern[str]
    message: str
    translation: str
    n_letters: int


@lru_cache(maxsize=len(LANGUAGES))
def _patterns(catalogue: NullTranslations) -> dict[int, list[_Pattern]]:
    """Return the messages with {placeholders} by their number of sentences, the most specific first."""
    messages: Mapping[Any, str] = getattr(catalogue, "_catalog", {})
    found = defaultdict(list)
    for message, translation in messages.items():
        if not isinstance(message, str) or not _PLACEHOLDER.search(message):
            continue
        parts = _PLACEHOLDER.split(message)
        pattern = "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        n_sentences = len(_SENTENCE_END.split(message))
        n_letters = sum(map(len, parts[::2]))
        found[n_sentences].append(_Pattern(re.compile(pattern, re.DOTALL), message, translation, n_letters))
    return {count: sorted(known, key=lambda each: -each.n_letters) for count, known in found.items()}


def localize_numbers(text: str, language: str) -> str:
    """Return a text with the decimal and thousands marks of a language; the rounding stays that of the English text.

    Examples:
        "1,204" -> "1.204", "10.9%" -> "10,9 %" with a no-break space, both in German.
    """
    marks = {".": get_decimal_symbol(language), ",": get_group_symbol(language), "%": "\N{NO-BREAK SPACE}%"}
    return _LOCAL_NUMBER.sub(lambda number: "".join(marks.get(c, c) for c in number[0]), text)


def translating(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter whose texts are in the page's language."""

    def translated(*arguments: Any, **options: Any) -> Any:
        return translate(function(*arguments, **options))

    translated.__name__ = function.__name__
    return translated
