import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from detector.provenance.exif_thumbnail import thumbnail_similarity
from detector.provenance.findings import MIN_PREVIEW_SIMILARITY


def preview(image, size=(160, 120), *, turn=0, borders=False):
    small = image.rotate(turn, expand=True)
    small = ImageOps.pad(small, size) if borders else ImageOps.contain(small, size)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


@pytest.mark.parametrize("box", [(0, 0, 512, 512), (0, 0, 512, 300), (60, 0, 320, 512)])
@pytest.mark.parametrize("options", [{}, {"turn": 90}, {"turn": 270, "borders": True}, {"borders": True}])
def test_a_preview_matches_its_own_picture(options, box, astronaut):
    image = astronaut.crop(box)
    assert thumbnail_similarity(preview(image, **options), np.asarray(image)) > 0.95


def test_a_cropped_preview_matches_its_own_picture(astronaut):
    image = astronaut.crop((0, 0, 512, 300))
    buffer = io.BytesIO()
    ImageOps.fit(image, (160, 120)).save(buffer, "JPEG")
    assert thumbnail_similarity(buffer.getvalue(), np.asarray(image)) > 0.95


def test_a_preview_does_not_match_another_picture(astronaut):
    own = preview(astronaut)
    for other in (astronaut.crop((150, 0, 350, 200)), ImageOps.mirror(astronaut), ImageOps.invert(astronaut)):
        assert thumbnail_similarity(own, np.asarray(other)) < MIN_PREVIEW_SIMILARITY


def test_a_preview_that_cannot_be_compared_gives_none(astronaut, portrait):
    own = preview(astronaut)
    for odd in (b"", own[:200], preview(astronaut, (2000, 1500)), preview(Image.new("RGB", (200, 150), "grey"))):
        assert thumbnail_similarity(odd, portrait) is None
    assert thumbnail_similarity(own, np.zeros((100, 100, 3), np.uint8)) is None
