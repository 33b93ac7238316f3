"""Statistics: of own results, of all for the operator, and on the command line."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from plain_words import offences, page_texts
from stored_results import picture, video, voice

from detector.results import Reason
from webapp.drawings import activity
from webapp.models import State
from webapp.statistics import counts as counting
from webapp.statistics.counts import MAX_TIME_BINS, SCORE_BINS, count_everyone, count_own, time_steps

TOKEN = "the operator's long token"


@pytest.fixture
def stored(keep):
    keep(picture("deepfake", probability=1.0), age_days=2, elapsed_ms=40.0)
    keep(picture("real", probability=0.0), age_days=2, elapsed_ms=50.0)
    keep(picture(probability=0.5), elapsed_ms=99.9)
    keep(picture(faces=[], probability=0.9, reasons=[Reason.NO_FACE]), elapsed_ms=400_000.0)
    keep(voice("real", probability=0.05), elapsed_ms=1_500.0)
    keep(video(), state=State.WAITING, verdict=None, probability=None, is_checked=False, elapsed_ms=None)
    keep(video("deepfake", probability=0.84), visitor="another", age_days=5, elapsed_ms=20_000.0, content=b"12345")


def test_own_results_are_counted(app, stored):
    with app.app_context():
        counts = count_own("somebody")
    assert (counts.n, counts.n_visitors, counts.days_per_step, len(counts.days)) == (6, 1, 1, 3)
    assert counts.by_medium == {
        **{("image", outcome): 1 for outcome in ("deepfake", "real", "inconclusive", "unchecked")},
        **{("audio", "real"): 1, ("video", "waiting"): 1},
    }
    assert counts.by_day == {
        **{(0, "deepfake"): 1, (0, "real"): 1, (2, "inconclusive"): 1},
        **{(2, "unchecked"): 1, (2, "real"): 1, (2, "waiting"): 1},
    }
    assert [place for place, n in enumerate(counts.scores) if n] == [0, 1, 10, 19] and sum(counts.scores) == 4
    assert counts.durations == {("image", 0): 1, ("image", 1): 2, ("image", 11): 1, ("audio", 5): 1}


def test_everyones_results_are_counted(app, stored):
    with app.app_context():
        counts = count_everyone()
    assert (counts.n, counts.n_visitors, counts.stored_bytes, len(counts.days)) == (7, 2, 11, 6)
    assert counts.by_medium["video", "deepfake"] == 1


def test_nothing_is_counted_where_nothing_is(app, client):
    with app.app_context():
        assert count_own("somebody").n == 0 and count_everyone().by_day == {}
    page = client.get("/statistics").text
    assert "There are no results to count yet." in page and "<svg class" not in page


@pytest.mark.parametrize(
    ("age_days", "n_steps", "step"),
    [(0, 1, 1), (1, 2, 1), (MAX_TIME_BINS - 1, MAX_TIME_BINS, 1), (MAX_TIME_BINS, 16, 2), (400, 31, 13)],
)
def test_time_is_divided_into_few_steps_up_to_today(age_days, n_steps, step):
    now = datetime.now(UTC)
    days, length = time_steps(now - timedelta(days=age_days))
    assert (len(days), length) == (n_steps, step)
    assert days[0] == (now - timedelta(days=age_days)).date() and 0 <= (now.date() - days[-1]).days < step


def test_the_page_shows_charts_with_their_numbers(visitor_client, stored):
    page = visitor_client.get("/statistics").text
    assert "All 6 results of this browser" in page
    for title in ("Results over time", "Verdicts", "Scores", "Processing times"):
        assert f"<strong>{title}.</strong>" in page and f"{title} in numbers" in page
    assert page.count("<desc") == 5  # a sentence for each panel; two media have one each for their times
    assert "Pictures: half of 4 took under 100 ms." in page and "Recordings: half of 1 took under 2 s." in page
    assert re.search(r'<rect class="deepfake stacked"[^>]*><title>Deepfake, [\d-]{10}: 1</title>', page)
    assert offences(page_texts(page)) == []
    assert not re.search(r"<style|\sstyle=", page)
    german = visitor_client.get("/statistics", headers={"Accept-Language": "de"})
    assert german.status_code == 200 and '<html lang="de">' in german.text


def test_one_result_is_one(visitor_client, keep):
    keep(picture("real", probability=0.1))
    assert "1 result of this browser that is still stored." in visitor_client.get("/statistics").text


def test_bars_have_the_heights_of_their_counts():
    days = (date(2026, 11, 1), date(2026, 11, 2))
    chart = activity.results_by_day(days, 1, {(0, "real"): 3, (0, "deepfake"): 1, (1, "failed"): 1, (1, "running"): 1})
    areas = chart.panels[0].areas
    assert [(area.kind.split()[0], area.y, area.height) for area in areas] == [
        ("deepfake", 75, 25),
        ("real", 0, 75),
        ("no-result", 50, 50),
    ]
    assert chart.rows == (("2026-11-01", "1", "0", "3", "0", "0"), ("2026-11-02", "0", "0", "0", "0", "2"))
    shares = activity.verdict_shares({("image", "real"): 3, ("image", "deepfake"): 1, ("audio", "unchecked"): 2})
    assert [(area.x, area.width) for area in shares.panels[0].areas] == [(0, 25), (25, 75), (0, 100)]
    assert shares.rows[0] == ("Pictures", "1 (25.0%)", "0 (0.0%)", "3 (75.0%)", "0 (0.0%)", "0 (0.0%)")


def test_a_score_of_one_lies_in_the_last_bin():
    chart = activity.own_scores([0] * (SCORE_BINS - 1) + [2])
    (bar,) = chart.panels[0].areas
    assert (bar.y, bar.height) == (0, 100) and 95 < bar.x < 96 and chart.rows[-1] == ("95% to 100%", "2")


def test_a_time_beyond_all_bins_has_words():
    chart = activity.processing_times(counting.TIME_EDGES_MS, {("video", len(counting.TIME_EDGES_MS) - 2): 3})
    assert chart.panels[0].label == "Videos: half of 3 took over 300 s." and chart.rows[-1] == ("300 s or more", "3")


def test_without_a_token_there_is_no_operators_page(client):
    assert client.get("/operator").status_code == 404
    for address in ("/operator", "/operator/leave"):
        assert client.submit(address, token="").status_code == 404


def test_the_operator_sees_all_with_the_token_only(make_app, stored):
    browser = make_app(OPERATOR_TOKEN=TOKEN).test_client()
    page = browser.get("/operator").text
    assert 'type="password"' in page and "Visitors:" not in page and offences(page_texts(page)) == []
    for wrong in ("", TOKEN[:-1], f"{TOKEN} ", "é" * 20):
        refused = browser.submit("/operator", token=wrong)
        assert refused.status_code == 403 and "This is not the operator’s token." in refused.text
        assert "Visitors:" not in browser.get("/operator").text
    assert browser.submit("/operator", token=TOKEN).location == "/operator"
    page = browser.get("/operator").text
    assert "Results: 7. Visitors: 2. Files: 11 bytes." in page and offences(page_texts(page)) == []
    with browser.session_transaction() as session:
        assert TOKEN not in str(dict(session))
    browser.submit("/operator/leave")
    assert "Visitors:" not in browser.get("/operator").text


def test_another_token_ends_the_sessions_of_the_first(make_app, stored):
    browser = make_app(OPERATOR_TOKEN=TOKEN).test_client()
    browser.submit("/operator", token=TOKEN)
    cookie = browser.get_cookie("session").value
    replaced = make_app(OPERATOR_TOKEN=f"another, {TOKEN}").test_client()
    replaced.set_cookie("session", cookie)
    assert 'type="password"' in replaced.get("/operator").text


def test_the_command_prints_the_statistics_of_all(app, stored):
    printed = app.test_cli_runner().invoke(args=["statistics"]).output
    assert printed.startswith("7 results of 2 visitors, 11 bytes of files stored.\n")
    assert re.search(r"^Videos +1 \(50.0%\) +0 \(0.0%\) .* 1 \(50.0%\)$", printed, flags=re.MULTILINE)
    assert re.search(r"^95% to 100% +1$", printed, flags=re.MULTILINE)


def test_the_words_below_the_charts_have_room():
    """The day of a single bar stands below it, and at 375 px no two words of a scale touch."""
    (day,) = activity.results_by_day([date(2026, 11, 22)], 1, {(0, "real"): 1}).panels[0].x_ticks
    assert (day.x, day.anchor) == (50, "middle")
    ticks = activity.processing_times(counting.TIME_EDGES_MS, {("image", 2): 1}).panels[0].x_ticks
    assert [tick.text for tick in ticks] == ["0", "100 ms", "1 s", "10 s", "60 s"]
    shares = activity.verdict_shares({("image", "real"): 1}).panels[0].x_ticks
    assert [tick.text for tick in shares] == ["0%", "50%", "100%"]
