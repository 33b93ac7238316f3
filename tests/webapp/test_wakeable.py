"""The threads for jobs and webhooks: they survive an outage, and no request to work is lost."""

import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from webapp import analyses, wakeable
from webapp.api import webhooks
from webapp.wakeable import WakeableThread

PATIENCE_S = 30  # a busy machine is slow


@pytest.fixture(autouse=True)
def soon_again(monkeypatch):
    monkeypatch.setattr(wakeable, "TRY_AGAIN_S", 0.01)


def wait_until(is_so):
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def gone():
    return OperationalError("SELECT 1", {}, Exception("the database is gone"))


@pytest.mark.embedded
@pytest.mark.parametrize("name", ["jobs", "webhooks"])
def test_a_lost_database_is_logged_and_the_work_goes_on_when_it_is_back(make_app, monkeypatch, caplog, name):
    app, errors, calls = make_app(JOBS="embedded"), [gone(), gone()], []

    def has_work():
        calls.append(threading.current_thread().name)
        if errors:
            raise errors.pop()
        return False

    monkeypatch.setattr(*{"jobs": (analyses, "has_work"), "webhooks": (webhooks, "has_pending")}[name], has_work)
    app.extensions[name].wake()
    wait_until(lambda: len(calls) == 3)
    assert calls == [name] * 3
    assert caplog.text.count(f"The thread {name} could not do its work; it tries again.") == 2
    assert "the database is gone" in caplog.text


def test_a_thread_that_is_woken_while_it_works_works_once_more_and_then_ends():
    begun, go_on, count = threading.Semaphore(0), threading.Semaphore(0), []

    def work():
        count.append(threading.current_thread())
        begun.release()
        go_on.acquire()

    thread = WakeableThread("test", work)
    thread.wake()
    begun.acquire()
    thread.wake()
    thread.wake()
    go_on.release(2)
    count[0].join(PATIENCE_S)
    assert not count[0].is_alive() and count == [count[0]] * 2
    go_on.release()
    thread.wake()
    wait_until(lambda: len(count) == 3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_any_other_error_the_next_wake_starts_a_new_thread():
    seen = []

    def work():
        seen.append(threading.current_thread())
        if len(seen) == 1:
            raise ValueError("an error of ours")

    thread = WakeableThread("test", work)
    thread.wake()
    wait_until(lambda: seen)
    seen[0].join(PATIENCE_S)
    thread.wake()
    wait_until(lambda: len(seen) == 2)
    assert seen[0] is not seen[1]
