"""The page of the API, and the parts of the OpenAPI document that it shows."""

import re

import pytest
from plain_words import offences, page_texts

from webapp.api.reference import type_of


def test_the_page_shows_every_operation_and_schema(app, client):
    document = client.get("/api/v1/openapi.json").json
    page = client.get("/api").text
    for path, operations in document["paths"].items():
        for method in set(operations) - {"parameters"}:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name, schema in document["components"]["schemas"].items():
        assert f'id="{name}"' in page
        assert all(f"<code>{member}</code>" in page for member in schema["properties"])
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page


def test_every_operation_and_member_is_described(client):
    document = client.get("/api/v1/openapi.json").json
    for operations in document["paths"].values():
        for method, operation in operations.items():
            if method != "parameters":
                assert operation["summary"] and {"401", "403"} <= set(operation["responses"]) or "security" in operation
    for schema in document["components"]["schemas"].values():
        assert schema["description"] and all(member.get("description") for member in schema["properties"].values())


def test_the_page_is_plain_and_linked_from_every_page(client):
    assert offences(page_texts(client.get("/api").text)) == []
    assert 'href="/api"' in client.get("/").text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["number", "null"]}, "number or null"),
        ({"$ref": "#/components/schemas/Face"}, "Face"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Face"}}, "list of Face"),
        ({"anyOf": [{"$ref": "#/components/schemas/Sound"}, {"type": "null"}]}, "Sound or null"),
        ({"type": "string", "enum": ["real", "deepfake"]}, "string: real, deepfake"),
        ({}, "any"),
    ],
)
def test_a_type_is_written_in_words(schema, words):
    assert type_of(schema) == words
