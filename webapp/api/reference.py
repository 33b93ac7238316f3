"""The page that shows the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Blueprint, current_app, render_template

from webapp.api.problems import API_PREFIX

reference = Blueprint("api_reference", __name__)


@dataclass(frozen=True)
class Operation:
    """One operation of the document.

    Attributes:
        anchor: id of its section.
        method, path: such as "POST" and "/api/v1/analyses".
        summary: what it does.
        description: more about it; may be empty.
        is_public: it needs no token.
        parameters: name, where it is sent, type, whether it is required, and description of each.
        bodies: media types of the request.
        answers: status, meaning and name of the schema of each answer.
    """

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    is_public: bool
    parameters: tuple[tuple[str, str, str, bool, str], ...]
    bodies: tuple[str, ...]
    answers: tuple[tuple[str, str, str], ...]


@reference.get("/api")
def show_reference() -> str:
    """Show every operation and every schema of the API, from its OpenAPI document."""
    document = current_app.extensions["openapi"].to_dict()
    return render_template(
        "api_reference.html",
        operations=list(operations_of(document)),
        schemas={name: tuple(rows_of(schema)) for name, schema in document["components"]["schemas"].items()},
        descriptions={
            name: schema.get("description", "") for name, schema in document["components"]["schemas"].items()
        },
        prefix=API_PREFIX,
    )


def operations_of(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield the operations of an OpenAPI document in its order."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
            yield Operation(
                anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""),
                method=method.upper(),
                path=path,
                summary=operation.get("summary", ""),
                description=operation.get("description", ""),
                is_public=operation.get("security") == [],
                parameters=tuple(
                    (
                        each["name"],
                        each["in"],
                        type_of(each.get("schema", {})),
                        bool(each.get("required")),
                        each.get("description", ""),
                    )
                    for each in parameters
                ),
                bodies=tuple(operation.get("requestBody", {}).get("content", ())),
                answers=tuple(
                    (status, *_answer(status, response)) for status, response in operation["responses"].items()
                ),
            )


def rows_of(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the name, type and description of each member of an object."""
    for name, member in schema.get("properties", {}).items():
        yield name, type_of(member), member.get("description", "")


def type_of(schema: Mapping[str, Any]) -> str:
    """Return the type of a value in words, such as "list of FaceSchema" or "number or null"."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(type_of(each) for each in schema[key])
    kinds = schema.get("type", "any")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "items" in schema:
        words = words.replace("array", f"list of {type_of(schema['items'])}")
    if "enum" in schema:
        words += ": " + ", ".join(str(each) for each in schema["enum"] if each is not None)
    return words


def _answer(status: str, response: Mapping[str, Any]) -> tuple[str, str]:
    if "$ref" in response:
        return HTTPStatus(int(status)).phrase, "Problem"
    content = response.get("content", {})
    kinds = [type_of(each["schema"]) if "json" in name else name for name, each in content.items() if "schema" in each]
    return response.get("description", ""), ", ".join(kinds)
