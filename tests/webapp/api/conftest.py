"""An access token, and a client that sends it."""

import pytest

from webapp.api.tokens import create_token


class Program:
    """A program that uses the API with an access token, and keeps no cookie."""

    def __init__(self, app, **options):
        with app.app_context():
            token, self.token = create_token("a program", **options)
            self.token_id, self.visitor = token.id, token.visitor
        self.client = app.test_client(use_cookies=False)

    def open(self, method, path, *, headers=None, **options):
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **options)

    def get(self, path, **options):
        return self.open("GET", path, **options)

    def post(self, path, **options):
        return self.open("POST", path, **options)

    def delete(self, path, **options):
        return self.open("DELETE", path, **options)

    def send(self, data, path="/analyses?filename=me.jpg", **headers):
        """Send a file as the body."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(path, data=data, headers={"Content-Type": "application/octet-stream", **names})


@pytest.fixture
def program(app):
    return Program(app)


@pytest.fixture
def make_program(app):
    return lambda **options: Program(app, **options)
