"""Several files in one upload: their rows, their order in the queue, their page and what can be done there."""

import io
import re

import pytest
from batches import run_all, send, table_of, zip_of
from clips import make_sound
from plain_words import offences, page_texts
from voices import speak
from werkzeug.datastructures import FileStorage

from webapp import analyses, uploads
from webapp.batches.files import UploadedFile, submit_files
from webapp.batches.results import BATCH_PAGE_SIZE, BATCHES_PAGE_SIZE
from webapp.models import Analysis, Batch, State, Upload, db

TEXT = ("notes.txt", b"just some words")


@pytest.fixture
def context(app):
    with app.app_context():
        yield


@pytest.fixture(scope="module")
def wav():
    return make_sound(speak(1.0))


@pytest.fixture
def picture(face_jpeg):
    """A file that waits in the queue; no test analyses it unless it says so."""
    return face_jpeg


def rows_of(app):
    with app.app_context():
        return list(db.session.scalars(db.select(Analysis).order_by(Analysis.batch_position)))


def count_rows(app):
    with app.app_context():
        return tuple(db.session.query(table).count() for table in (Batch, Analysis, Upload))


def problem(response):
    return re.search(r'id="upload-error"[^>]*>(.*?)</p>', response.text, re.DOTALL)[1]


# one upload, many rows


def test_several_files_wait_in_one_batch_in_their_order(client, app, picture, wav):
    response = send(client, [("b/me.jpg", picture), ("voice.wav", wav), ("b/me.jpg", picture)])
    assert response.status_code == 303 and re.fullmatch(r"/batches/[\w-]{22}", response.location)
    rows = rows_of(app)
    assert [(row.filename, row.media, row.state) for row in rows] == [
        ("b/me.jpg", "image", State.WAITING),
        ("voice.wav", "audio", State.WAITING),
        ("b/me.jpg", "image", State.WAITING),
    ]
    assert [row.batch_position for row in rows] == [0, 1, 2] and len({row.batch_id for row in rows}) == 1
    assert count_rows(app) == (1, 3, 2)  # equal files are stored once and shown twice
    page = client.get(response.location).text
    assert [row[:2] for row in table_of(page)] == [(1, "b/me.jpg"), (2, "voice.wav"), (3, "b/me.jpg")]
    assert '<h1 class="file-name">3 files</h1>' in page and "0 of 3 files are done." in page


def test_one_file_has_no_batch(client, app, picture):
    assert client.upload(picture).location.startswith("/analyses/")
    assert count_rows(app) == (0, 1, 1)


def test_a_zip_is_a_batch_with_its_name_and_the_folders_in_it(client, app, picture):
    archive = zip_of([("holiday/ä.jpg", picture), ("../../etc/x\u202e.jpg", picture), ("__MACOSX/._a", b"x")])
    page = client.get(client.upload(archive, "C:/files/Urlaub.zip").location).text
    assert [row[1] for row in table_of(page)] == ["holiday/ä.jpg", "etc/x.jpg"]
    assert '<h1 class="file-name">Urlaub.zip</h1>' in page


def test_a_folder_gives_its_name_and_a_zip_beside_files_is_a_folder(client, app, picture):
    names = ("Party/a.jpg", "Party/s/b.jpg", "Party/.DS_Store")
    folder = [FileStorage(io.BytesIO(picture), name) for name in names]
    page = client.get(client.submit("/analyses", folder=folder).location).text
    assert '<h1 class="file-name">Party</h1>' in page
    assert [row[1] for row in table_of(page)] == ["Party/a.jpg", "Party/s/b.jpg"]
    page = client.get(send(client, [("me.jpg", picture), ("more.zip", zip_of([("x/b.jpg", picture)]))]).location).text
    assert [row[1] for row in table_of(page)] == ["me.jpg", "more.zip/x/b.jpg"]


def test_refused_files_are_rows_with_their_reason(client, app, picture):
    archive = zip_of([("in.zip", zip_of([("a.jpg", picture)])), ("empty.jpg", b"")])
    files = [TEXT, ("me.jpg", picture), ("more.zip", archive), ("bad.zip", b"PK\x03\x04" + bytes(50))]
    page = client.get(send(client, files).location).text
    names = ["notes.txt", "me.jpg", "more.zip/in.zip", "more.zip/empty.jpg", "bad.zip"]
    assert [(row[1], row[2]) for row in table_of(page)] == [
        (name, "waiting" if name == "me.jpg" else "failed") for name in names
    ]
    for words in ("The file is plain text", "an archive inside an archive", "The file is empty", "damaged or cut off"):
        assert words in page
    assert count_rows(app) == (1, 1, 1) and "4 of 5 files are done." in page


@pytest.mark.parametrize(
    ("files", "settings", "status", "words"),
    [
        ([TEXT, ("page.html", b"<!doctype html><html>")], {}, 400, "None of the 2 files can be used. The first one is"),
        ([TEXT, TEXT], {}, 400, "The file is plain text."),
        ([("a.zip", zip_of([]))], {}, 400, "There are no files in the ZIP archive."),
        ([(f"{i}.jpg", b"x") for i in range(4)], {"MAX_BATCH_FILES": 3}, 413, "There are 4 files; at most 3"),
        pytest.param(
            [(f"{i}.jpg", b"x") for i in range(9)], {"MAX_BATCH_FILES": 3}, 413, "at most 1000 MB and 3 files",
            # Werkzeug leaves the files open of a form that it stops reading.
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
        ([("a.zip", zip_of([(f"{i}", b"x") for i in range(4)]))], {"MAX_BATCH_FILES": 3}, 413, "There are 4 files"),
        ([("a.zip", zip_of([("a.bmp", bytes(3_000_000))]))], {"MAX_BATCH_MB": 2}, 413, "3.0 MB in all; at most 2 MB"),
        ([("a.zip", zip_of([("a.bmp", bytes(21_000_000))]))], {}, 413, "more than 100 times its size"),
    ],
    ids=["all refused", "for one reason", "empty", "files", "parts", "zipped", "bytes", "bomb"],
)  # fmt: skip
def test_an_upload_that_is_refused_stores_nothing(make_app, stored_files, files, settings, status, words):
    app = make_app(**settings)
    response = send(app.test_client(), files)
    assert (response.status_code, words in problem(response)) == (status, True), problem(response)
    assert count_rows(app) == (0, 0, 0) and stored_files() == []
    assert offences(page_texts(response.text)) == []


def test_a_full_disk_leaves_nothing_of_the_batch(context, app, picture, stored_files, monkeypatch):
    save, saved = uploads.save_upload, []

    def save_two(sha256, file):
        if len(saved) == 2:
            raise OSError("No space left on device")
        saved.append(sha256)
        save(sha256, file)

    monkeypatch.setattr(uploads, "save_upload", save_two)
    files = [UploadedFile(f"{i}.jpg", io.BytesIO(picture + bytes(i))) for i in range(4)]
    with pytest.raises(OSError, match="No space left"):
        submit_files(files, visitor="somebody")
    assert count_rows(app) == (0, 0, 0) and stored_files() == []


# the queue


def test_a_file_on_its_own_does_not_wait_for_a_whole_batch(context, picture, wav):
    def batch(visitor):
        return submit_files([UploadedFile(f"{i}.jpg", io.BytesIO(picture)) for i in range(3)], visitor=visitor)

    ids = {f"a{i}": each for i, each in enumerate(analyses.ids_of_batch(batch("a").id, "a"))}
    single = analyses.submit(io.BytesIO(wav), filename="v.wav", visitor="b")
    ids |= {f"c{i}": each for i, each in enumerate(analyses.ids_of_batch(batch("c").id, "c"))} | {"b": single.id}
    names = {analysis_id: name for name, analysis_id in ids.items()}
    order = ["a0", "b", "c0", "a1", "c1", "a2", "c2"]
    assert [analyses.place_in_queue(analyses.get(ids[name], name[0])) for name in order] == list(range(7))
    assert [names[analyses.claim()] for _ in range(7)] == order


# the page


def test_the_page_fills_and_its_table_is_sorted(client, app, picture, real_detector, astronaut):
    empty, small = io.BytesIO(), io.BytesIO()
    astronaut.crop((0, 300, 90, 390)).save(empty, "PNG")
    astronaut.resize((300, 300)).save(small, "JPEG")
    files = [
        ("z.jpg", picture),
        ("A.jpg", small.getvalue()),
        ("wall.png", empty.getvalue()),
        ("cut.jpg", picture[:300]),
    ]
    address = send(client, [*files, TEXT]).location
    assert 'src="/static/batch.js"' in client.get(address).text
    run_all(app, real_detector)
    page = client.get(address).text
    assert "batch.js" not in page and "progress" not in page and "Cancel all" not in page
    badges = {name: badge for _, name, badge in table_of(page)}
    verdicts = {name: str(real_detector.detect(data).verdict) for name, data in files[:2]}
    assert badges == {**verdicts, "wall.png": "unchecked", "cut.jpg": "failed", "notes.txt": "failed"}
    assert "Could not be checked: 1; Failed: 2" in page and "How often is such a verdict wrong?" in page
    assert page.count("%</td>") == 2  # P(fake) stands only where something was checked
    assert "No face was found" in page and "Try 1 file again" in page and "Deleted automatically on" in page

    for sort, order in {
        "name": ["A.jpg", "cut.jpg", "notes.txt", "wall.png", "z.jpg"],
        "-position": ["notes.txt", "cut.jpg", "wall.png", "A.jpg", "z.jpg"],
        "-medium": ["z.jpg", "A.jpg", "wall.png", "cut.jpg", "notes.txt"],  # what has no medium comes last
    }.items():
        assert [row[1] for row in table_of(client.get(f"{address}?sort={sort}").text)] == order
    scores = sorted(("z.jpg", "A.jpg"), key=lambda name: real_detector.detect(dict(files)[name]).probability)
    for sort, order in {"probability": scores, "-probability": scores[::-1]}.items():
        shown = [row[1] for row in table_of(client.get(f"{address}?sort={sort}").text)]
        assert shown == [*order, "wall.png", "cut.jpg", "notes.txt"]  # what has no score comes last
    assert 'aria-sort="descending"' in client.get(f"{address}?sort=-verdict").text
    assert offences(page_texts(page)) == []

    single = re.search(r'href="(/analyses/[^"]+)"', page)[1]
    assert f'href="{address}">All files of this upload</a>' in client.get(single).text
    start = client.get("/").text
    assert start.count('class="card recent-result"') == 1 and "5 files" in start and address in start
    assert offences(page_texts(start)) == []


def test_the_table_is_searched_by_name_verdict_and_medium(client, app, picture, wav):
    address = send(client, [("trip/a.jpg", picture), ("b.wav", wav), TEXT, ("trip/TOUR.jpg", picture)]).location
    with app.app_context():
        analyses.fail(analyses.claim(), "It is broken.")
    searches = {
        "name=TRIP": ["trip/a.jpg", "trip/TOUR.jpg"],
        "name=t&sort=-position": ["trip/TOUR.jpg", "notes.txt", "trip/a.jpg"],
        "verdict=failed": ["trip/a.jpg", "notes.txt"],
        "verdict=waiting&media=image": ["trip/TOUR.jpg"],
        "media=audio": ["b.wav"],
        "media=video": [],
    }
    kinds = re.findall(r"<td>(\w+)</td>", client.get(address).text)
    assert kinds == ["Picture", "Recording", "Picture"]  # the words of the history
    for query, found in searches.items():
        page = client.get(f"{address}?{query}").text
        assert [row[1] for row in table_of(page)] == found, query
        assert "fit" in page and "Waiting: 2" in page and "2 of 4 files are done." in page  # of the whole batch
    page = client.get(f"{address}?verdict=failed&name=t").text
    assert '<option value="failed" selected>' in page and 'value="t"' in page
    assert f'href="{address}?name=t&amp;verdict=failed&amp;sort=-probability#results">P(fake)</a>' in page
    assert "No result fits this search." in client.get(f"{address}?media=video").text
    refused = client.get(f"{address}?verdict=guilty&name=x")
    assert refused.status_code == 400 and "There is no such choice: “guilty”." in refused.text
    assert 'value="x"' in refused.text and len(table_of(refused.text)) == 4
    assert client.get(f"{address}?sort=nonsense").status_code == 400
    assert offences(page_texts(page)) == []


def test_the_table_has_pages(client, app, picture):
    names = [f"{number:02}.jpg" for number in range(BATCH_PAGE_SIZE + 3)]
    address = send(client, [(name, picture) for name in names]).location
    first = client.get(f"{address}?sort=-name").text
    assert [row[1] for row in table_of(first)] == names[: -BATCH_PAGE_SIZE - 1 : -1]
    following = f"{address}?sort=-name&page=2"
    assert f'href="{following.replace("&", "&amp;")}#results" rel="next"' in first
    assert re.findall(r'aria-label="Page \d"( aria-current="page")?>(\d)<', first) == [
        (' aria-current="page"', "1"),
        ("", "2"),
    ]
    second = client.get(following).text
    assert [row[1] for row in table_of(second)] == names[2::-1] and 'rel="prev"' in second
    assert table_of(client.get(f"{address}?sort=-name&page=99").text) == table_of(second)
    assert "pager" not in client.get(f"{address}?name=00").text
    assert "0 of 53 files are done." in second


def test_all_are_cancelled_tried_again_and_deleted(client, app, picture, stored_files):
    address = send(client, [("a.jpg", picture), ("b.jpg", picture), TEXT]).location
    assert "Cancel all" in client.get(address).text
    assert client.submit(f"{address}/cancel").location == address
    assert [row.state for row in rows_of(app)] == [State.CANCELLED] * 2
    page = client.get(address).text
    assert "Try 2 files again" in page and [row[2] for row in table_of(page)] == ["cancelled", "cancelled", "failed"]
    client.submit(f"{address}/retry")
    assert [row.state for row in rows_of(app)] == [State.WAITING] * 2
    assert client.submit(f"{address}/delete").location == "/"
    assert count_rows(app) == (0, 0, 0) and stored_files() == []
    assert "have been deleted" in client.get("/").text and client.get(address).status_code == 404


def test_own_batches_are_listed_with_their_numbers_and_deleted_there(client, app, picture, stored_files):
    assert "There are none yet." in client.get("/batches").text
    first = send(client, [("a.jpg", picture), ("b.jpg", picture), TEXT]).location
    second = client.upload(zip_of([("c.jpg", picture)]), "Urlaub.zip").location
    send(app.test_client(), [("stranger.jpg", picture), TEXT])
    with app.app_context():
        analyses.fail(analyses.claim(), "It is broken.")
    page = client.get("/batches").text
    assert re.findall(r'class="recent-name" href="([^"]+)">([^<]+)<', page) == [
        (second, "Urlaub.zip"),
        (first, "3 files"),
    ]
    assert re.findall(r'<li class="badge (\w+)">[^:]+: (\d+)', page) == [
        *[("waiting", "1")],
        *[("failed", "2"), ("waiting", "1")],
    ]
    assert "2 of 3 files are done." in page and "has sent 2 folders, ZIPs or groups of files." in page
    assert offences(page_texts(page)) == []
    assert client.submit(f"{first}/delete", in_list="yes").location == "/batches"
    page = client.get("/batches").text
    assert "have been deleted." in page and "Urlaub.zip" in page and "3 files" not in page


def test_the_list_of_batches_has_pages(client, app, picture):
    with app.app_context():
        client.get("/")
        with client.session_transaction() as session:
            visitor = session["visitor"]
        for number in range(BATCHES_PAGE_SIZE + 1):
            submit_files([UploadedFile("a.jpg", io.BytesIO(picture))] * 2, visitor=visitor).name = f"{number}"
            db.session.commit()
    assert re.findall(r'class="recent-name"[^>]*>([^<]+)<', client.get("/batches?page=2").text) == ["0"]
    assert 'href="/batches?page=2" rel="next"' in client.get("/batches?page=x").text


def test_the_history_leads_to_a_batch_and_searches_in_it(client, app, picture):
    client.upload(picture, "alone.jpg")
    first = client.upload(zip_of([("c.jpg", picture), ("d.jpg", picture)]), "Urlaub.zip").location
    send(client, [("a.jpg", picture), ("b.jpg", picture)])
    batch_id = first.rpartition("/")[2]
    page = client.get("/history").text
    assert page.count(f'<a href="{first}">') == 2 and page.count("All files of this upload</a>") == 2
    assert re.findall(r'<option value="[\w-]{22}">\s*([^,]+),', page) == ["2 files", "Urlaub.zip"]
    page = client.get(f"/history?batch={batch_id}").text
    assert re.findall(r'class="recent-name"[^>]*>([^<]*)<', page) == ["d.jpg", "c.jpg"]
    assert f'<option value="{batch_id}" selected>' in page and "2 results fit your search" in page
    assert f'href="/history?batch={batch_id}"' in client.get(first).text
    rows = client.get(f"/history/results.json?batch={batch_id}").json["results"]
    assert [row["path"] for row in rows] == ["d.jpg", "c.jpg"]
    stranger = app.test_client()
    assert "c.jpg" not in stranger.get(f"/history?batch={batch_id}").text
    assert offences(page_texts(page)) == []


def test_a_batch_goes_with_its_last_result(client, app, picture):
    address = send(client, [("a.jpg", picture), ("b.jpg", picture)]).location
    first, second = (row.id for row in rows_of(app))
    client.submit(f"/analyses/{first}/delete")
    assert [row[1] for row in table_of(client.get(address).text)] == ["b.jpg"]
    client.submit(f"/analyses/{second}/delete")
    assert count_rows(app) == (0, 0, 0) and client.get(address).status_code == 404


def test_nobody_else_sees_or_changes_a_batch(client, app, picture):
    address = send(client, [("a.jpg", picture), ("b.jpg", picture)]).location
    stranger = app.test_client()
    assert stranger.get(address).status_code == stranger.get(f"{address}/results.csv").status_code == 404
    for action in ("cancel", "retry", "delete"):
        assert stranger.submit(f"{address}/{action}").status_code == 404
    assert [row.state for row in rows_of(app)] == [State.WAITING] * 2
    assert "a.jpg" not in stranger.get("/").text


@pytest.mark.parametrize("action", ["cancel", "retry", "delete"])
def test_what_changes_a_batch_needs_the_token(client, app, picture, action):
    address = send(client, [("a.jpg", picture), ("b.jpg", picture)]).location
    assert client.post(f"{address}/{action}").status_code == 400
    assert [row.state for row in rows_of(app)] == [State.WAITING] * 2
