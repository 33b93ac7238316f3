"""Hooks of Schemathesis: what a binary string of the OpenAPI document is, since not any bytes are a picture."""

import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(buffer, kind)
    return buffer.getvalue()


schemathesis.openapi.format("binary", strategies.sampled_from([picture("PNG"), picture("JPEG")]))
