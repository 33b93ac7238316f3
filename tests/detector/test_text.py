from datetime import UTC, datetime

import pytest

from detector.text import (
    MAX_TEXT_CHARACTERS,
    format_bytes,
    format_count,
    format_datetime,
    format_estimate,
    format_per_hundred,
    format_per_thousand,
    format_percent,
    format_probability,
    sanitize_text,
)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "under 0.1%"), (0.0004, "under 0.1%"), (0.031, "3.1%"), (0.5, "50%"), (0.954, "95.4%"), (1, "over 99.9%")],
)
def test_a_probability_never_claims_certainty(share, words):
    assert format_probability(share) == words


@pytest.mark.parametrize(
    ("measured", "share", "words"),
    [
        ({"value": 0.031, "low": 0.02, "high": 0.046, "n": 9}, True, "3.1% (2.0% to 4.6%)"),
        ({"value": 0.912, "low": 0.9, "high": 0.92}, False, "0.912 (0.900 to 0.920)"),
        ({"value": 0.031, "low": None, "high": None}, True, "3.1%"),
        (0.5, True, "50.0%"),
        (0.5, False, "0.500"),
    ],
)
def test_an_estimate_shows_its_interval_when_it_has_one(measured, share, words):
    assert format_estimate(measured, share=share).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(("size", "words"), [(7, "7 bytes"), (12_345, "12 kB"), (3_456_789, "3.5 MB")])
def test_sizes(size, words):
    assert format_bytes(size) == words


def test_counts_and_percentages():
    assert format_count(1_234_567) == "1,234,567" and format_percent(0.0314) == "3.1%"


def test_times_are_in_utc():
    assert format_datetime(datetime(2026, 11, 2, 8, 39, tzinfo=UTC)) == "2 November 2026, 08:39 UTC"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a  b\n\tc ", "a b c"),
        ("\x1b[31mred\x07", "[31mred"),
        ("a\u202eb\u200bc\u2028d", "abc d"),
        ("käse 你好 🙂", "käse 你好 🙂"),
    ],
)
def test_text_of_unknown_origin_becomes_one_visible_line(text, shown):
    assert sanitize_text(text) == shown


def test_long_text_is_cut_and_its_length_stated():
    assert sanitize_text("x" * MAX_TEXT_CHARACTERS) == "x" * MAX_TEXT_CHARACTERS
    for length in (MAX_TEXT_CHARACTERS + 1, 10 * MAX_TEXT_CHARACTERS):
        shown = sanitize_text("x" * length)
        assert shown == "x" * MAX_TEXT_CHARACTERS + f" … ({length:,} characters in all)"


@pytest.mark.parametrize(
    ("share", "low", "high", "words"),
    [
        (0.0871, 0.0701, 0.1054, "87 (70 to 106)"),
        (0.25, 0.25, 0.25, "250 (250 to 250)"),
        (0.0004, 0, 0.0021, "fewer than 1 (0 to 3)"),
        (0, 0, 0.0042, "none (0 to 5)"),
        (1, 0.96, 1, "1,000 (960 to 1,000)"),
    ],
)
def test_a_proportion_is_a_number_of_a_thousand(share, low, high, words):
    assert format_per_thousand(share, low, high).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("share", "high", "words"),
    [
        (0.0871, 0.11, "9"),
        (0.0049, 0.008, "at most 1"),
        (0.0, 0.042, "at most 5"),
        (0.0, 0.0, "at most 1"),
        (1, 1, "100"),
    ],
)
def test_a_proportion_as_a_number_of_100(share, high, words):
    assert format_per_hundred(share, high) == words
