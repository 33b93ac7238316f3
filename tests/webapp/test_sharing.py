"""Links that show one result to others: who sees what, for how long, and what the database holds."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from clips import make_sound
from stored_results import explained, picture, voice
from voices import speak

from detector.voices.detect import VOICE_MODEL_FILES
from webapp import analyses, jobs
from webapp.models import Analysis, db
from webapp.sharing import links
from webapp.sharing.links import ShareLink


@pytest.fixture
def address(client, face_jpeg):
    """The address of a result of the file holiday.jpg."""
    return client.upload(face_jpeg, "holiday.jpg").location


def share(client, address, **fields):
    """Create a link and return its path, as the owner's page shows it once."""
    assert client.submit(f"{address}/links", **{"days": "7", **fields}).status_code == 303
    return re.search(r'id="new-link"[^>]*value="http://localhost(/shared/[\w-]{43})"', client.get(address).text)[1]


def stored_links(app):
    with app.app_context():
        return list(db.session.scalars(db.select(ShareLink)))


def test_a_link_shows_the_verdict_to_a_stranger_and_lets_them_change_nothing(app, client, address):
    link = share(client, address)
    owner, stranger = client.get(address).text, app.test_client()
    page = stranger.get(link)
    assert page.status_code == 200
    headline = re.search(r"<h1>.*?</h1>", owner)[0]
    assert headline in page.text and "The owner of this result shares it until" in page.text
    assert "<form" not in page.text and "csrf_token" not in page.text and "Set-Cookie" not in page.headers
    analysis_id = address.rpartition("/")[2]
    assert analysis_id not in page.text and "holiday" not in page.text and "Shared picture: 1 face found" in page.text
    files = set(re.findall(r'(?:href|src)="(/shared/[^"#]+)"', page.text))
    assert len(files) >= 2 and all(stranger.get(file).status_code == 200 for file in files)
    assert stranger.get(address).status_code == 404 and stranger.get(f"{link}/files/lime.png").status_code == 404
    with app.app_context():  # the name was hidden, not changed
        assert db.session.scalars(db.select(Analysis.filename)).one() == "holiday.jpg"


def test_the_name_is_shown_if_the_owner_wants_it(app, client, address):
    link = share(client, address, shows_filename="yes")
    assert "holiday.jpg: 1 face found" in app.test_client().get(link).text
    assert "It shows the name of the file." in client.get(address).text


def test_search_engines_and_other_sites_learn_nothing_of_a_link(app, client, address):
    link = share(client, address)
    for place in (link, f"{link}/files/picture.jpg", "/shared/nothing"):
        headers = app.test_client().get(place).headers
        assert (headers["X-Robots-Tag"], headers["Referrer-Policy"]) == ("noindex, nofollow", "no-referrer")
        assert "no-store" in headers["Cache-Control"] and "default-src 'none'" in headers["Content-Security-Policy"]
    assert 'content="noindex, nofollow"' in client.get(link).text
    headers = client.get(address).headers
    assert "X-Robots-Tag" not in headers and headers["Referrer-Policy"] == "same-origin"


def test_a_link_is_shown_once_and_only_its_hash_is_stored(app, client, address):
    token = share(client, address).rpartition("/")[2]
    assert token not in client.get(address).text
    (link,) = stored_links(app)
    assert token not in "".join(str(value) for value in vars(link).values())
    assert link.token_sha256 == links._hash(token) and link.expires_at - link.created_at == timedelta(days=7)


def test_an_own_result_opens_no_way_to_the_links_of_another(app, client, address, face_jpeg):
    link = share(client, address)
    stranger = app.test_client()
    own = stranger.upload(face_jpeg).location
    (stored,) = stored_links(app)
    assert stranger.submit(f"{own}/links/{stored.id}/revoke").status_code == 404
    assert stranger.get(link).status_code == 200


@pytest.mark.parametrize("how", ["expired", "revoked", "unknown", "deleted", "unfinished"])
def test_what_is_no_longer_shared_is_not_found(how, app, client, address):
    link = share(client, address)
    stranger = app.test_client()
    if how == "expired":
        with app.app_context():
            db.session.execute(db.update(ShareLink).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
            db.session.commit()
        assert "Links that are open" not in client.get(address).text
    elif how == "revoked":
        revocation = re.search(rf'action="({address}/links/[\w-]+/revoke)"', client.get(address).text)[1]
        assert app.test_client().submit(revocation).status_code == 404
        assert stranger.get(link).status_code == 200
        assert client.submit(revocation).status_code == 303
        assert client.submit(revocation).status_code == 404
    elif how == "unknown":
        link = "/shared/" + "A" * 43
    elif how == "deleted":
        assert client.submit(f"{address}/delete").status_code == 303
        assert stored_links(app) == []
    else:
        with app.app_context():
            db.session.execute(db.update(Analysis).values(state="failed"))
            db.session.commit()
    for place in (link, f"{link}/files/picture.jpg", f"{link}/media"):
        response = stranger.get(place)
        assert response.status_code == 404 and "This link has ended, or its owner has revoked it." in response.text


def test_only_the_owner_can_share_and_only_for_the_offered_times(app, client, address):
    assert app.test_client().submit(f"{address}/links", days="7").status_code == 404
    for days in ("0", "8", "3650", "soon", ""):
        assert client.submit(f"{address}/links", days=days).status_code == 400
    assert client.post(f"{address}/links", data={"days": "7"}).status_code == 400  # without the form's token
    assert stored_links(app) == []


def test_ended_links_are_swept_and_open_ones_are_limited(app, client, address, monkeypatch):
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    share(client, address, days="1")
    with app.app_context():
        db.session.execute(db.update(ShareLink).values(expires_at=datetime.now(UTC)))
        db.session.commit()
    for _ in range(2):
        share(client, address, days="30")
    assert len(stored_links(app)) == 2
    client.submit(f"{address}/links", days="1")
    page = client.get(address).text
    assert "A result can have" in page and "new-link" not in page and len(stored_links(app)) == 2


@pytest.mark.parametrize("matters", [None, True])
def test_a_shared_explanation_has_no_button(show, client, app, matters):
    show(picture("deepfake"), result=explained(picture("deepfake"), matters=matters))
    with app.app_context():
        analysis = db.session.scalars(db.select(Analysis)).one()
        token = links.create_link(analysis, days=1, shows_filename=False)
    page = client.get(f"/shared/{token}").text
    assert "What the network saw" in page and "<button" not in page
    assert ("Marked areas blurred" in page) is bool(matters)


def test_a_shared_voice_is_named_as_one(show, client, app):
    show(voice("real"))
    with app.app_context():
        token = links.create_link(db.session.scalars(db.select(Analysis)).one(), days=1, shows_filename=False)
    page = client.get(f"/shared/{token}").text
    assert "<title>Shared recording: This is a Real Voice!" in page and f'src="/shared/{token}/media"' in page


@pytest.mark.slow
@pytest.mark.skipif(not VOICE_MODEL_FILES["onnx"].is_file(), reason="Recordings need the voice model.")
def test_a_shared_recording_is_played_from_the_link(app, client, real_detector):
    data = make_sound(speak(3.0))
    address = client.upload(data, "memo.wav").location
    with app.app_context():
        jobs.run(analyses.claim(), lambda: real_detector)
    link, stranger = share(client, address), app.test_client()
    assert stranger.get(f"{link}/media").data == data
    part = stranger.get(f"{link}/media", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.data == data[100:200]
    assert stranger.get(f"{link}/files/spectrogram.png").status_code == 200
