"""The history: the list and its search, deletion of several, repetition, and two results side by side."""

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from plain_words import offences, page_texts
from sqlalchemy import event, select
from stored_results import face, picture, video, voice

from detector.results import Reason
from webapp.history import pages, search
from webapp.history.search import HISTORY_ORDERS, HISTORY_PAGE_SIZE, Found, InvalidSearch, Search, find
from webapp.models import Analysis, State, Upload, db
from webapp.outcomes import Outcome, outcome_of

SEVERAL = {
    "holiday.jpg": {"detection": picture("deepfake", probability=0.97), "age_days": 1},
    "Ärger 100%_x.png": {"detection": picture("real", probability=0.031), "age_days": 2},
    "wall.png": {"detection": picture(faces=[], probability=0.99, reasons=[Reason.NO_FACE]), "age_days": 3},
    "memo.wav": {"detection": voice(probability=0.5, reasons=[Reason.BETWEEN_THRESHOLDS]), "age_days": 4},
    "trip.mp4": {"detection": video("deepfake", probability=0.84), "age_days": 5},
    "waiting.mp4": {"detection": video(), "age_days": 6, "state": State.WAITING, "verdict": None, "is_checked": False},
}


def day(age_days):
    return (datetime.now(UTC) - timedelta(days=age_days)).date().isoformat()


SEARCHES = [  # fields, and the names that are found in this order
    ({}, list(SEVERAL)),
    ({"name": "HOLI"}, ["holiday.jpg"]),
    ({"name": "ärger"}, ["Ärger 100%_x.png"]),
    ({"name": "%_"}, ["Ärger 100%_x.png"]),
    ({"name": "  .png "}, ["Ärger 100%_x.png", "wall.png"]),
    ({"verdict": "deepfake"}, ["holiday.jpg", "trip.mp4"]),
    ({"verdict": "inconclusive"}, ["memo.wav"]),
    ({"verdict": "unchecked"}, ["wall.png"]),
    ({"verdict": "waiting"}, ["waiting.mp4"]),
    ({"media": "audio"}, ["memo.wav"]),
    ({"media": "video", "verdict": "deepfake"}, ["trip.mp4"]),
    ({"since": day(3), "until": day(2)}, ["Ärger 100%_x.png", "wall.png"]),
    ({"lowest": "84"}, ["holiday.jpg", "trip.mp4"]),
    ({"lowest": "0", "highest": "50%"}, ["Ärger 100%_x.png", "memo.wav"]),
    ({"sort": "oldest"}, list(SEVERAL)[::-1]),
    ({"sort": "name"}, ["holiday.jpg", "memo.wav", "trip.mp4", "waiting.mp4", "wall.png", "Ärger 100%_x.png"]),
    ({"sort": "highest"}, ["holiday.jpg", "trip.mp4", "memo.wav", "Ärger 100%_x.png", "wall.png", "waiting.mp4"]),
    ({"sort": "lowest"}, ["Ärger 100%_x.png", "memo.wav", "trip.mp4", "holiday.jpg", "wall.png", "waiting.mp4"]),
    ({"name": "no such name"}, []),
]

UNREADABLE = [
    ("since", "yesterday", "“yesterday” is not a day."),
    ("until", "9999-12-31", "is not a day."),
    ("lowest", "many", "A score is a number from 0 to 100, not “many”."),
    ("highest", "101", "A score is a number from 0 to 100, not “101”."),
    ("highest", "nan", "A score is a number"),
    ("verdict", "guilty", "There is no such choice: “guilty”."),
    ("media", "smell", "There is no such choice: “smell”."),
    ("sort", "upside down", "There is no such choice"),
]


@pytest.fixture
def several(keep):
    """Store one of each kind for the visitor, and a stranger's; return the ids by name."""
    keep(picture("deepfake", probability=0.9), visitor="a stranger", filename="holiday of a stranger.jpg")
    return {name: keep(filename=name, content=name.encode(), **kept) for name, kept in SEVERAL.items()}


def names(client, **fields):
    response = client.get("/history", query_string=fields)
    assert response.status_code == 200
    return re.findall(r'class="recent-name"[^>]*>([^<]*)<', response.text)


def test_own_results_are_searched_filtered_and_sorted(visitor_client, several):
    for fields, found in SEARCHES:
        assert names(visitor_client, **fields) == found, fields


def test_the_database_and_the_pages_agree_on_what_became_of_a_file(app, keep):
    cases = [
        *({"detection": make(verdict)} for make in (picture, voice, video) for verdict in ("real", "deepfake")),
        *({"detection": picture(reasons=[reason])} for reason in Reason),
        *({"detection": picture(), "state": state} for state in State if state != State.DONE),
    ]
    for case in cases:
        keep(**case)
    with app.app_context():
        for each in Outcome:
            found = find("somebody", Search(verdict=each)).rows
            assert {outcome_of(row.state, row.verdict, row.result["reasons"]) for row in found} <= {each}
        assert sum(find("somebody", Search(verdict=each)).count for each in Outcome) == len(cases)


def test_a_list_has_pages(visitor_client, keep):
    for number in range(HISTORY_PAGE_SIZE + 2):
        keep(picture(), filename=f"scan {number:02}.jpg", age_days=number / 100)
    first, second = names(visitor_client, name="scan"), names(visitor_client, name="scan", page=2)
    assert [*first, *second] == [f"scan {number:02}.jpg" for number in range(HISTORY_PAGE_SIZE + 2)]
    page = visitor_client.get("/history?name=scan").text
    assert 'href="/history?name=scan&amp;page=2" rel="next"' in page
    assert '<a href="/history?name=scan" aria-label="Page 1" aria-current="page">1</a>' in page
    assert "27 results fit your search" in page and "This browser has 27 results." in page
    assert names(visitor_client, name="scan", page=99) == second  # for example after a deletion
    assert names(visitor_client, page="no number") == first


@pytest.mark.parametrize(
    ("page", "pages", "offered"),
    [
        (1, 2, [1, 2]),
        (1, 9, [1, 2, None, 9]),
        (3, 9, [1, 2, 3, 4, None, 9]),
        (4, 9, [1, 2, 3, 4, 5, None, 9]),  # a gap of one page takes as much room as the page
        (5, 9, [1, None, 4, 5, 6, None, 9]),
        (9, 9, [1, None, 8, 9]),
    ],
)
def test_a_pager_offers_the_first_the_last_and_the_nearest_pages(page, pages, offered):
    assert Found([], 0, page, pages).offered_pages == offered


def test_an_empty_history_says_what_to_do(client, several):
    page = client.get("/history").text  # of a new visitor
    assert "There are no results yet." in page and "holiday" not in page and "<form" not in page


def test_a_search_without_success_says_so_and_keeps_its_fields(visitor_client, several):
    page = visitor_client.get("/history?name=%22%3E%3Cb%3E&verdict=real&lowest=7").text
    assert "No result fits this search." in page and "<b>" not in page
    assert 'value="&#34;&gt;&lt;b&gt;"' in page and '<option value="real" selected>' in page and 'value="7"' in page


def test_a_field_that_cannot_be_read_is_named_and_nothing_is_lost(visitor_client, several):
    for field, value, words in UNREADABLE:
        response = visitor_client.get("/history", query_string={"name": "kept words", field: value})
        assert response.status_code == 400 and words in response.text, field
        assert 'value="kept words"' in response.text
        assert offences(page_texts(response.text)) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"since": "2026-11-02", "until": "2026-11-01"}, "The first day is after the last one."),
        ({"lowest": "60", "highest": "50"}, "The lowest score is above the highest one."),
    ],
)
def test_a_range_that_ends_before_it_begins_is_refused(fields, words):
    with pytest.raises(InvalidSearch, match=words):
        Search.of(fields)


def test_a_search_and_its_address_are_the_same():
    wanted = Search("a b", "real", "image", date(2026, 11, 1), None, 12.5, 60.0, "name", 3)
    assert wanted.arguments() == {
        **{"name": "a b", "verdict": "real", "media": "image", "since": "2026-11-01"},
        **{"lowest": "12.5", "highest": "60", "sort": "name", "page": "3"},
    }
    assert Search.of(wanted.arguments()) == wanted and wanted.is_narrow
    assert Search().arguments() == {} and not Search(sort="name", page=4).is_narrow


def test_a_list_reads_no_records_but_those_of_its_page(app, keep):
    """What is filtered and sorted by is in the index; a record is many times as long."""
    statements = []
    with app.app_context():
        if db.engine.dialect.name != "sqlite":  # PostgreSQL stores long records apart from their rows
            return
        event.listen(db.engine, "before_cursor_execute", lambda _c, _u, statement, *_: statements.append(statement))
        for sort in HISTORY_ORDERS:
            statements.clear()
            find("somebody", Search("i", "real", "image", date(2026, 1, 1), date(2030, 1, 1), 0.0, 100.0, sort))
            for statement in statements[:2]:  # the number of all, and the ids of the page
                explained = f"EXPLAIN QUERY PLAN {statement}"
                plan = db.session.connection().exec_driver_sql(explained, ("x",) * statement.count("?"))
                assert "COVERING INDEX ix_analysis_history (visitor=? AND created_at" in plan.first().detail


def test_chosen_results_are_deleted_and_the_list_returns(visitor_client, app, several, stored_files):
    fields = {"name": ".", "sort": "name", "page": "1"}
    response = visitor_client.submit(
        "/history/delete", analysis=[several["wall.png"], several["memo.wav"], "A" * 22], **fields
    )
    assert response.status_code == 303 and response.location == "/history?name=.&sort=name&page=1"
    page = visitor_client.get(response.location).text
    assert "2 results and their files have been deleted." in page
    assert "wall.png" not in page and "memo.wav" not in page and "trip.mp4" in page
    assert not [path for path in stored_files() if several["wall.png"] in path]
    visitor_client.submit("/history/delete", analysis=several["trip.mp4"])
    assert "The result and its file have been deleted." in visitor_client.get("/history").text


def test_the_results_of_a_search_are_downloaded_in_its_order(visitor_client, app, several):
    page = visitor_client.get("/history?name=.p&sort=lowest&page=2").text
    assert 'href="/history/results.csv?name=.p&amp;sort=lowest" download' in page
    file = visitor_client.get("/history/results.csv?name=.&sort=lowest&media=image")
    found = [row["path"] for row in csv.DictReader(io.StringIO(file.data.decode("utf-8-sig")))]
    assert found == ["Ärger 100%_x.png", "holiday.jpg", "wall.png"]
    assert re.fullmatch(r"attachment; filename=results-[\d-]{10}\.csv", file.headers["Content-Disposition"])
    everything = visitor_client.get("/history/results.json").json
    assert len(everything["results"]) == len(SEVERAL) and "stranger" not in str(everything)
    for ending, magic in (("xlsx", b"PK"), ("pdf", b"%PDF")):
        assert visitor_client.get(f"/history/results.{ending}").data.startswith(magic)
    assert visitor_client.get("/history/results.exe").status_code == 404
    assert visitor_client.get("/history/results.csv?since=x").status_code == 400


def test_a_file_holds_only_so_many_results(visitor_client, several, monkeypatch):
    for module in (pages, search):
        monkeypatch.setattr(module, "MAX_EXPORTED", 2)
    assert "Search for at most 2 results to download them" in visitor_client.get("/history").text
    refused = visitor_client.get("/history/results.csv")
    assert refused.status_code == 400 and "At most 2 results fit into one file." in refused.text
    assert visitor_client.get("/history/results.csv?verdict=deepfake").status_code == 200


def test_a_deletion_without_a_choice_deletes_nothing(visitor_client, several):
    response = visitor_client.submit("/history/delete", name="holi")
    assert response.status_code == 400 and "Choose at least one result." in response.text
    assert "holiday.jpg" in response.text and len(names(visitor_client)) == len(SEVERAL)


def test_all_own_results_are_deleted_and_no_others(visitor_client, app, several, stored_files):
    page = visitor_client.get("/history").text
    assert "Yes, delete all 6 results" in page and '<details class="deletion">' in page
    visitor_client.submit("/history/delete-all")
    assert "6 results and their files have been deleted." in visitor_client.get("/history").text
    with app.app_context():
        assert list(db.session.scalars(select(Analysis.visitor))) == ["a stranger"]
        assert len(list(db.session.scalars(select(Upload)))) == 1
    assert len(stored_files()) == 2


def test_a_stranger_deletes_compares_and_repeats_nothing(app, several):
    stranger = app.test_client()
    stranger.submit("/history/delete", analysis=list(several.values()))
    stranger.submit("/history/delete-all")
    first, second = several["holiday.jpg"], several["trip.mp4"]
    assert stranger.get("/compare", query_string={"analysis": [first, second]}).status_code == 404
    assert stranger.submit(f"/analyses/{first}/repeat").status_code == 404
    with app.app_context():
        assert len(list(db.session.scalars(select(Analysis.id)))) == len(SEVERAL) + 1


@pytest.mark.parametrize("address", ["/history/delete", "/history/delete-all", "/analyses/{first}/repeat"])
def test_a_form_from_elsewhere_is_refused(visitor_client, app, several, address):
    first = several["holiday.jpg"]
    assert visitor_client.post(address.format(first=first), data={"analysis": first}).status_code == 400
    assert len(names(visitor_client)) == len(SEVERAL)


def test_the_token_against_forged_forms_is_never_in_an_address(visitor_client, several):
    page = visitor_client.get("/history").text
    for form in re.findall(r'<form[^>]*method="get".*?</form>', page, flags=re.DOTALL):
        assert '<input type="hidden" name="csrf_token"' not in form
        for button in re.findall(r"<button[^>]*csrf_token[^>]*>", form):
            assert 'formmethod="post"' in button


def test_a_repetition_refers_to_the_first_result_and_shows_what_changed(client, app, face_jpeg, force_verdict):
    force_verdict("real")
    address = client.upload(face_jpeg, "me.jpg").location
    with app.app_context():
        earlier = db.session.scalar(select(Analysis))
        earlier.result = {**earlier.result, "model_sha256": "ab" * 32}
        db.session.commit()
    assert "What changed" not in client.get(address).text
    force_verdict("deepfake")
    repeated = client.submit(f"{address}/repeat").location
    assert repeated != address
    page = client.get(repeated).text
    assert "The verdict has changed." in page and "The model has been replaced since." in page
    table = re.search(r'<section class="changes".*?</section>', page, flags=re.DOTALL)[0]
    cells = [re.sub(r"<[^>]*>|\s+", " ", row).split() for row in re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)]
    assert cells[1] == ["Verdict", "Real", "Deepfake", "changed"] and cells[2][-1] == "same"
    assert cells[3][:5] == ["SHA-256", "of", "the", "model", "ab" * 8] and cells[3][-1] == "changed"
    assert offences(page_texts(page)) == []
    with app.app_context():
        assert db.session.scalar(select(Upload.reference_count)) == 2
    assert names(client, lowest="0") == ["me.jpg", "me.jpg"]  # the scores have a meaning
    client.submit(f"{address}/delete")
    page = client.get(repeated)
    assert page.status_code == 200 and "What changed" not in page.text


def test_a_repeated_recording_waits_like_an_upload(visitor_client, app, keep):
    first = keep(voice(), content=b"RIFF\0\0\0\0WAVEfmt ", filename="memo.wav")
    address = visitor_client.submit(f"/analyses/{first}/repeat").location
    with app.app_context():
        again = db.session.get_one(Analysis, address.rpartition("/")[2])
        assert (again.state, again.repeats, again.filename, again.visitor) == (
            *(State.WAITING, first),
            *("memo.wav", "somebody"),
        )
        assert again.upload.reference_count == 2


def test_only_a_result_whose_file_is_stored_is_repeated(visitor_client, app, several):
    assert visitor_client.submit(f"/analyses/{several['waiting.mp4']}/repeat").status_code == 404
    with app.app_context():
        app.extensions["storage"].delete(f"uploads/{db.session.get(Analysis, several['wall.png']).upload_sha256}")
    assert visitor_client.submit(f"/analyses/{several['wall.png']}/repeat").status_code == 404


def rows_of(page):
    """Return the cells of each line of a comparison."""
    found = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", page, flags=re.DOTALL)[1:]:
        cells = [
            " ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)
        ]
        found[cells[0]] = cells[1:]
    return found


def test_two_results_stand_side_by_side(visitor_client, keep):
    first = keep(picture("deepfake", probability=0.97), filename="one.jpg", content=b"1")
    second = keep(picture("real", faces=[face((10, 10, 90, 90))] * 2, probability=0.031), filename="two.jpg")
    page = visitor_client.get("/compare", query_string={"analysis": [first, second], "name": "o", "page": "2"}).text
    assert page.count('class="picture"') == 2 and page.count('class="zones"') == 2
    assert 'id="picture-1-title"' in page and 'id="picture-2-title"' in page
    assert 'href="/history?name=o&amp;page=2"' in page
    rows = rows_of(page)
    assert rows["Verdict"] == ["Deepfake", "Real", "different"]
    assert rows["P(fake)"] == ["97.0%", "3.1%", "different"]
    assert rows["Faces"] == ["1", "2", "different"]
    assert rows["Name"] == ["one.jpg", "two.jpg", "different"]
    assert rows["Width and height in pixels"] == ["600 × 400", "600 × 400", "same"]
    assert rows["SHA-256 of the model"] == ["cd" * 8, "cd" * 8, "same"]
    assert "Duration" not in rows
    assert offences(page_texts(page)) == []


def test_results_of_different_media_are_compared_too(visitor_client, several):
    found = rows_of(
        visitor_client.get("/compare", query_string={"analysis": [several["trip.mp4"], several["wall.png"]]}).text
    )
    assert found["P(fake)"] == ["84%", "–", "different"] and found["Duration"] == ["0:05", "–", "different"]
    assert found["Verdict"] == ["Deepfake", "Could not be checked", "different"]
    page = visitor_client.get("/compare", query_string={"analysis": [several["memo.wav"], several["trip.mp4"]]}).text
    assert page.count('class="compared-picture"') == 2


@pytest.mark.parametrize("chosen", [[], ["holiday.jpg"], ["holiday.jpg"] * 2, ["holiday.jpg", "wall.png", "memo.wav"]])
def test_any_other_number_than_two_is_refused_and_the_choice_stays(visitor_client, several, chosen):
    response = visitor_client.get(
        "/compare", query_string={"analysis": [several[name] for name in chosen], "name": "."}
    )
    assert response.status_code == 400 and "Choose exactly two results to compare." in response.text
    assert len(re.findall(r"<input type=\"checkbox\"[^>]* checked", response.text)) == len(set(chosen))
    assert 'value="."' in response.text


def test_what_has_no_result_yet_is_not_compared(visitor_client, several):
    ids = [several["waiting.mp4"], several["holiday.jpg"]]
    response = visitor_client.get("/compare", query_string={"analysis": ids})
    assert response.status_code == 400 and "Wait until both are done." in response.text


def test_the_pages_are_linked_and_plain(visitor_client, several):
    page = visitor_client.get("/history").text
    assert '<a href="/history" aria-current="page">' in page
    assert offences(page_texts(page)) == []
    assert '<a href="/history">All your results</a>' in visitor_client.get("/").text
    again = visitor_client.get("/history", headers={"Accept-Language": "de"})
    assert again.status_code == 200 and '<html lang="de">' in again.text
