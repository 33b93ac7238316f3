"""Read what a file states about its own origin: metadata, signatures, and traces of how it was saved.

None of it enters the score: anybody can write or remove these data, and most services remove them. So each finding
states what it can mean and what it cannot.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

import numpy as np

from detector.media.jpeg import JpegCoding, read_jpeg_coding
from detector.media.kinds import sniff
from detector.provenance.credentials import Credentials, Trust, read_credentials
from detector.provenance.exif_thumbnail import thumbnail_similarity
from detector.provenance.metadata import FileText, Metadata, read_metadata
from detector.results import UnreadableMedia
from detector.text import format_count, sanitize_text, translatable

EXIF_TIME = "%Y:%m:%d %H:%M:%S"
EDITED_AFTER = timedelta(minutes=1)  # a camera may close a file some seconds after the shutter
# Similarity of a preview of 160 x 120 pixels to its picture, measured on 275 face pictures of split=train (25 of each
# source and label): .998 or more for the picture's own preview, .96 after a change of brightness and contrast, at most
# .72 for that of another picture, and .73 in the median and .94 at most after 10% of each side were cut off.
MIN_PREVIEW_SIMILARITY = 0.9

MAX_NAMES = 5  # of texts, in the sentence about them

# Source types of the IPTC and C2PA vocabularies.
SYNTHETIC_SOURCES = {
    "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic", "algorithmicMedia",
    "trainedAlgorithmicData",
}  # fmt: skip
CAPTURED_SOURCES = {"digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print"}
GENERATOR_NAMES = re.compile(
    r"midjourney|dall[-·. ]?e\b|stable diffusion|comfyui|novelai|invokeai|fooocus|firefly|openai|chatgpt|google ai"
    r"|google gemini|\bimagen \d|leonardo\.ai|ideogram|dreamstudio",
    re.IGNORECASE,
)


class FindingKind(StrEnum):
    """Kinds of findings, by their stored values."""

    CREDENTIALS_INTACT = "credentials_intact"
    CREDENTIALS_BROKEN = "credentials_broken"
    CREDENTIALS_ELSEWHERE = "credentials_elsewhere"
    SIGNER_TRUSTED = "signer_trusted"
    SIGNER_UNKNOWN = "signer_unknown"
    SIGNED_CLAIMS = "signed_claims"
    SYNTHETIC_SOURCE = "synthetic_source"
    CAPTURED_SOURCE = "captured_source"
    GENERATOR = "generator"
    CAMERA = "camera"
    SOFTWARE = "software"
    TAKEN = "taken"
    EDITED = "edited"
    LOCATION = "location"
    TEXT = "text"
    RESIZED = "resized"
    OTHER_PREVIEW = "other_preview"
    JPEG_TABLES = "jpeg_tables"
    PROGRESSIVE = "progressive"
    DAMAGED = "damaged"
    TECHNICAL = "technical"
    NO_METADATA = "no_metadata"
    NOT_READ = "not_read"


# kind: (what it can mean, what it cannot mean)
MEANINGS = {
    FindingKind.CREDENTIALS_INTACT: (
        translatable("The file is as it was when it was signed."),
        translatable("They confirm the file, not what it shows. How reliable they are depends on the signer."),
    ),
    FindingKind.CREDENTIALS_BROKEN: (
        translatable(
            "The file was changed after it was signed, perhaps only saved again. Or they belong to another file."
        ),
        translatable("They are no sign of a deepfake. But nothing that they say is reliable."),
    ),
    FindingKind.CREDENTIALS_ELSEWHERE: (
        translatable("A signed history of the picture may be found there."),
        translatable("The address alone proves nothing: anyone can write it into a file."),
    ),
    FindingKind.SIGNER_TRUSTED: (
        translatable("The publishers of that list have checked the signer, so the name is correct."),
        translatable("A known signer confirms how the file was made, not what it shows."),
    ),
    FindingKind.SIGNER_UNKNOWN: (
        translatable("Someone used that name to sign the file. Many honest programs are on no list."),
        translatable("Anyone can sign in any name, so the name proves nothing."),
    ),
    FindingKind.SIGNED_CLAIMS: (
        translatable("These are the steps that the signer reports."),
        translatable("Earlier steps are missing, and so are those of programs that do not sign."),
    ),
    FindingKind.SYNTHETIC_SOURCE: (
        translatable("All or part of it is labelled as generated. Many generators and editors write such labels."),
        translatable("It does not say which part was generated. Anyone can write a label that is not signed."),
    ),
    FindingKind.CAPTURED_SOURCE: (
        translatable("It is labelled as a photograph."),
        translatable("It does not prove it: anyone can write a label that is not signed."),
    ),
    FindingKind.GENERATOR: (
        translatable("The picture, or a part of it, was made by an image generator."),
        translatable("It does not say how much. Enlarging a photograph leaves the same note, and notes can be copied."),
    ),
    FindingKind.CAMERA: (
        translatable("It was taken with that camera, or made from a picture that was."),
        translatable("It does not prove a photograph: anyone can write these words into a file."),
    ),
    FindingKind.SOFTWARE: (
        translatable("That program saved the picture. Nearly every published picture was saved by some program."),
        translatable("It does not say what was changed. It is no sign of a deepfake."),
    ),
    FindingKind.TAKEN: (
        translatable("The clock of the camera or of the program showed this time."),
        translatable("It does not prove the day: clocks can be wrong, and anyone can write a date."),
    ),
    FindingKind.EDITED: (
        translatable("It was edited, or only saved again. Cropping and brightening count too."),
        translatable("It does not say that the face was altered."),
    ),
    FindingKind.LOCATION: (
        translatable("The camera stored its position, and anyone with this file can read it."),
        translatable("It does not prove the place: anyone can write one."),
    ),
    FindingKind.TEXT: (
        translatable("A person, or a program that saved the picture, wrote a text into the file."),
        translatable("It proves nothing: anyone can write a text."),
    ),
    FindingKind.RESIZED: (
        translatable("It was cropped or scaled after that size was noted."),
        translatable("It is no sign of a deepfake: most services shrink what is uploaded."),
    ),
    FindingKind.OTHER_PREVIEW: (
        translatable("It was cropped or altered by a program that kept the old preview."),
        translatable("It does not say what was altered. Compare the two pictures to see the difference."),
    ),
    FindingKind.JPEG_TABLES: (
        translatable(
            "Most programs use the standard tables, and many websites those of mozjpeg. Cameras and Adobe's programs "
            "have their own."
        ),
        translatable("It describes only how the file was last saved, not where the picture comes from."),
    ),
    FindingKind.PROGRESSIVE: (
        translatable("A program or a website saved it: cameras rarely write progressive files."),
        translatable("Being saved again is no sign of a deepfake."),
    ),
    FindingKind.DAMAGED: (
        translatable("The file was cut off or written by a faulty program, or someone tampered with it."),
        translatable("It is no sign of a deepfake. The picture itself can still be checked."),
    ),
    FindingKind.TECHNICAL: (
        translatable("The program that saved it last wrote no more, or a website removed the rest."),
        translatable("It says nothing about whether the picture is real."),
    ),
    FindingKind.NO_METADATA: (
        translatable("It was removed: most websites and messengers do so. Screenshots never have any."),
        translatable("It says nothing about whether the picture is real."),
    ),
    FindingKind.NOT_READ: (
        translatable("There may be metadata that other programs show."),
        translatable("It says nothing about whether the picture is real."),
    ),
}


@dataclass(frozen=True)
class Finding:
    """One fact about the file.

    Attributes:
        kind: what was found.
        fact: a sentence with the values as stored in the file.
    """

    kind: FindingKind
    fact: str

    @property
    def can_mean(self) -> str:
        """A possible conclusion."""
        return MEANINGS[self.kind][0]

    @property
    def cannot_mean(self) -> str:
        """A conclusion that does not follow."""
        return MEANINGS[self.kind][1]


@dataclass(frozen=True)
class Provenance:
    """What a file states about its own origin.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        size_bytes: of the file.
        media_type: as `sniff` returns it.
        exif, xmp: the few entries that are read, by name; never the place where a photograph was taken.
        has_location: the file contains that place.
        texts: texts of the file, such as the settings of a generator.
        credentials: its Content Credentials (C2PA); None without any that can be read.
        jpeg: how it was saved; None for other files.
        findings: the facts as sentences, the most important first.
    """

    sha256: str
    size_bytes: int
    media_type: str
    exif: dict[str, str]
    xmp: dict[str, str]
    has_location: bool
    texts: tuple[FileText, ...]
    credentials: Credentials | None
    jpeg: JpegCoding | None
    findings: tuple[Finding, ...]


def read_provenance(
    data: bytes,
    *,
    image: np.ndarray | None = None,
    trust_anchors: str | None = None,
    media_type: str | None = None,
    sha256: str | None = None,
) -> Provenance:
    """Read what a file states about its own origin, without network access; damaged metadata are reported and skipped.

    EXIF, XMP and texts are read from JPEG, PNG, WebP and TIFF files, Content Credentials (C2PA) from every type.

    Args:
        data: the file.
        image: (H, W, 3) uint8 RGB, its upright picture, which a preview in the file is compared with; None skips the
            comparison.
        trust_anchors: certificates (PEM) of trusted signers; None when there is no such list.
        media_type: the result of `sniff`; None sniffs the file.
        sha256: the file's hash in hexadecimal; None computes it.

    Raises:
        UnreadableMedia: the file is of an unsupported type.
    """
    media_type = media_type or sniff(data)
    metadata = read_metadata(data, media_type)
    notes = metadata or Metadata({}, {}, False, (), b"", ())
    damaged = list(notes.damaged)
    try:
        credentials = read_credentials(data, media_type, trust_anchors=trust_anchors)
    except UnreadableMedia:
        credentials = None
        damaged.append("Content Credentials (C2PA)")
    jpeg = read_jpeg_coding(data) if media_type == "image/jpeg" else None
    similarity = thumbnail_similarity(notes.preview, image) if notes.preview and image is not None else None
    origin = [
        *_find_signatures(credentials, notes.xmp.get("provenance")),
        *_find_source_types(notes, credentials),
        *_find_generators(notes, credentials),
        *_find_notes(notes),
        *(
            Finding(FindingKind.DAMAGED, translatable("The {name} in the file cannot be read.").format(name=name))
            for name in damaged
        ),
    ]
    if metadata is None:
        fact = translatable("EXIF, XMP and texts are not read from files of this kind ({kind}).").format(
            kind=media_type
        )
        origin.append(Finding(FindingKind.NOT_READ, fact))
    elif not origin:
        origin.append(_describe_absence(notes))
    return Provenance(
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        media_type=media_type,
        exif=notes.exif,
        xmp=notes.xmp,
        has_location=notes.has_location,
        texts=notes.texts,
        credentials=credentials,
        jpeg=jpeg,
        findings=(*origin, *_find_edits(notes, similarity), *_find_coding(notes, jpeg)),
    )


def _describe_absence(notes: Metadata) -> Finding:
    if notes.exif or notes.xmp:
        return Finding(FindingKind.TECHNICAL, translatable("Its metadata hold only technical notes, such as a size."))
    fact = translatable("The file has no metadata: no EXIF, no XMP, no text and no Content Credentials.")
    return Finding(FindingKind.NO_METADATA, fact)


def _find_signatures(credentials: Credentials | None, address: str | None) -> Iterator[Finding]:
    """Yield the findings on Content Credentials: whether they match the file, who signed, and what they state."""
    if credentials is None:
        if address:
            fact = translatable(
                "It points to Content Credentials (C2PA) on the internet ({host}). We did not fetch them."
            ).format(host=_host(address))
            yield Finding(FindingKind.CREDENTIALS_ELSEWHERE, fact)
        return
    if credentials.is_intact:
        fact = translatable("It has intact Content Credentials (C2PA): the signature is valid and fits this file.")
        yield Finding(FindingKind.CREDENTIALS_INTACT, fact)
    else:
        codes = ", ".join(credentials.problems) or "no valid signature"
        fact = translatable("It has broken Content Credentials (C2PA): they do not fit this file ({codes}).").format(
            codes=codes
        )
        yield Finding(FindingKind.CREDENTIALS_BROKEN, fact)
    signer = credentials.signer or "nobody"
    if credentials.trust is Trust.TRUSTED:
        yield Finding(
            FindingKind.SIGNER_TRUSTED,
            translatable("They are signed in the name of “{signer}”, who is on the list of trusted signers.").format(
                signer=signer
            ),
        )
    elif credentials.trust is Trust.UNTRUSTED:
        yield Finding(
            FindingKind.SIGNER_UNKNOWN,
            translatable(
                "They are signed in the name of “{signer}”, who is not on the list of trusted signers."
            ).format(signer=signer),
        )
    else:
        fact = translatable(
            "They are signed in the name of “{signer}”. There is no list of trusted signers here, so we "
            "cannot say whether to trust this one."
        ).format(signer=signer)
        yield Finding(FindingKind.SIGNER_UNKNOWN, fact)
    claims = [
        *([translatable("made with {name}").format(name=credentials.made_by)] if credentials.made_by else []),
        *([translatable("signed at {time}").format(time=credentials.signed_at)] if credentials.signed_at else []),
        *([translatable("steps: {steps}").format(steps=", ".join(credentials.actions))] if credentials.actions else []),
    ]
    if claims:
        yield Finding(FindingKind.SIGNED_CLAIMS, translatable("They say: {claims}.").format(claims="; ".join(claims)))


def _find_source_types(notes: Metadata, credentials: Credentials | None) -> Iterator[Finding]:
    """Yield the source types that XMP and Content Credentials declare."""
    labels = [(translatable("XMP declares"), notes.xmp.get("DigitalSourceType", "").rpartition("/")[2])]
    if credentials is not None:
        who = (
            translatable("The intact Content Credentials declare")
            if credentials.is_intact
            else translatable("The broken Content Credentials declare")
        )
        labels += [(who, label) for label in credentials.source_types]
    for who, label in labels:
        if label in SYNTHETIC_SOURCES:
            yield Finding(
                FindingKind.SYNTHETIC_SOURCE,
                translatable("{who} the source type “{label}”: generated by a program.").format(who=who, label=label),
            )
        elif label in CAPTURED_SOURCES:
            yield Finding(
                FindingKind.CAPTURED_SOURCE,
                translatable("{who} the source type “{label}”: taken with a camera.").format(who=who, label=label),
            )


def _find_generators(notes: Metadata, credentials: Credentials | None) -> Iterator[Finding]:
    """Yield the image generators that left their settings or their name."""
    for text in notes.texts:
        if text.generator:
            fact = translatable("It holds the settings of an image generator ({generator}), named “{name}”.").format(
                generator=text.generator, name=text.name
            )
            yield Finding(FindingKind.GENERATOR, fact)
    if "AIPromptInformation" in notes.xmp:
        yield Finding(FindingKind.GENERATOR, translatable("XMP holds the prompt of an image generator."))
    names = [*_software(notes), notes.xmp.get("Credit"), notes.xmp.get("AISystemUsed")]
    names += [credentials.made_by] if credentials else []
    for name in dict.fromkeys(name for name in names if name and GENERATOR_NAMES.search(name)):
        yield Finding(FindingKind.GENERATOR, translatable("It names an image generator: “{name}”.").format(name=name))


def _find_notes(notes: Metadata) -> Iterator[Finding]:
    """Yield camera, software, time, place and other texts."""
    camera = [source[key] for source in (notes.exif, notes.xmp) for key in ("Make", "Model") if key in source]
    if camera:
        yield Finding(
            FindingKind.CAMERA,
            translatable("It names a camera: “{name}”.").format(name=" ".join(dict.fromkeys(camera))),
        )
    for name in _software(notes):
        if not GENERATOR_NAMES.search(name):
            yield Finding(
                FindingKind.SOFTWARE, translatable("It names the software that wrote it: “{name}”.").format(name=name)
            )
    taken = notes.exif.get("DateTimeOriginal") or notes.xmp.get("CreateDate")
    if taken:
        yield Finding(
            FindingKind.TAKEN, translatable("It says that it was taken or made at “{time}”.").format(time=taken)
        )
    if notes.has_location:
        yield Finding(FindingKind.LOCATION, translatable("It says where it was taken. The place is not shown here."))
    names = dict.fromkeys(text.name for text in notes.texts if not text.generator and text.name != "Software")
    if names:
        shown = ", ".join(f"“{name}”" for name in list(names)[:MAX_NAMES])
        more = len(names) - MAX_NAMES
        fact = (
            translatable("It holds texts named {names} and {count} more.").format(names=shown, count=more)
            if more > 0
            else translatable("It holds texts named {names}.").format(names=shown)
        )
        yield Finding(FindingKind.TEXT, fact)


def _find_edits(notes: Metadata, similarity: float | None) -> Iterator[Finding]:
    """Yield the signs that the picture was edited after it was taken."""
    taken, changed = (_parse_time(notes.exif.get(name, "")) for name in ("DateTimeOriginal", "DateTime"))
    if taken and changed and changed - taken > EDITED_AFTER:
        yield Finding(
            FindingKind.EDITED,
            translatable("It was changed at “{time}”, after it was taken.").format(time=notes.exif["DateTime"]),
        )
    if "History" in notes.xmp:
        steps = int(notes.xmp["History"])
        fact = (
            translatable("XMP lists 1 step of editing.")
            if steps == 1
            else translatable("XMP lists {count} steps of editing.").format(count=format_count(steps))
        )
        yield Finding(FindingKind.EDITED, fact)
    if similarity is not None and similarity < MIN_PREVIEW_SIMILARITY:
        fact = translatable(
            "The small preview inside the file does not show the same as the picture (correlation {similarity})."
        ).format(similarity=f"{similarity:.2f}")
        yield Finding(FindingKind.OTHER_PREVIEW, fact)


def _find_coding(notes: Metadata, jpeg: JpegCoding | None) -> Iterator[Finding]:
    """Yield how a JPEG file was last saved, and whether its size was changed."""
    if jpeg is None:
        return
    noted = [notes.exif.get(name, "") for name in ("ExifImageWidth", "ExifImageHeight")]
    if all(size.isdecimal() for size in noted) and {*map(int, noted)} != {jpeg.width_px, jpeg.height_px}:
        fact = translatable("EXIF says {noted} pixels, but the picture has {size}.").format(
            noted=" × ".join(noted), size=f"{jpeg.width_px} × {jpeg.height_px}"
        )
        yield Finding(FindingKind.RESIZED, fact)
    how = {
        "standard": translatable("It was last saved as JPEG at quality {quality} with the standard tables."),
        "mozjpeg": translatable("It was last saved as JPEG at quality {quality} with the tables of mozjpeg."),
        "own": translatable("It was last saved as JPEG with tables of its own, about as coarse as quality {quality}."),
    }[jpeg.family]
    yield Finding(FindingKind.JPEG_TABLES, how.format(quality=jpeg.quality))
    if jpeg.is_progressive:
        yield Finding(FindingKind.PROGRESSIVE, translatable("It is a progressive JPEG."))


def _software(notes: Metadata) -> list[str]:
    written = [text.text for text in notes.texts if text.name == "Software"]  # a PNG file's own keyword
    names = (notes.exif.get("Software"), notes.xmp.get("CreatorTool"), *written)
    return list(dict.fromkeys(name for name in names if name))


def _parse_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, EXIF_TIME)
    except ValueError:
        return None


def _host(address: str) -> str:
    try:
        return sanitize_text(urlsplit(address).hostname or "") or "at no host"
    except ValueError:  # a bracket that is not closed
        return "at no host"
