"""Content Credentials (C2PA): the signed history inside a file, checked without network access."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from detector.results import UnreadableMedia
from detector.text import sanitize_text, translatable

MAX_REPORT_CHARACTERS = 4_000_000  # of the library's report on one file
MAX_CLAIMS = 50  # actions, source types or problems that are kept

# Disable all network access: for remote manifests, revoked certificates and identities.
OFFLINE = {
    "version": 1,
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
}
_MARK = b"jumdc2pa"  # in the first bytes of every manifest store; files without it are not passed to the library
_SIGNATURE_VALID = "claimSignature.validated"
_SIGNER_TRUSTED = "signingCredential.trusted"
_TRUST_CODES = ("signingCredential.", "timeStamp.untrusted")  # failures that concern the signer and not the file


class Trust(StrEnum):
    """Whether the signer is trusted, independent of whether the credentials match the file."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Credentials:
    """What the Content Credentials inside a file state, and whether they are valid.

    Attributes:
        is_intact: the signature is valid and every hash matches this file.
        trust: whether the signer is on the list of trusted signers; "unchecked" when there is no list.
        signer: the names in the certificate; None without any.
        signed_at: time of signing from a time stamp; None without one.
        made_by: the program that made the claims.
        actions: the steps it reports, in order.
        source_types: of the picture and its ingredients, such as "trainedAlgorithmicMedia".
        problems: validation codes of the failed checks, except those about trust.
    """

    is_intact: bool
    trust: Trust
    signer: str | None
    signed_at: str | None
    made_by: str | None
    actions: tuple[str, ...]
    source_types: tuple[str, ...]
    problems: tuple[str, ...]


def read_credentials(data: bytes, media_type: str, *, trust_anchors: str | None = None) -> Credentials | None:
    """Read and check the Content Credentials inside a file, without network access.

    Args:
        data: the file.
        media_type: as `sniff` returns it.
        trust_anchors: certificates (PEM) of trusted signers; None when there is no list.

    Returns:
        None for a file without any.

    Raises:
        UnreadableMedia: the Content Credentials are damaged.

    Source:
        Coalition for Content Provenance and Authenticity, "Content Credentials: C2PA Technical Specification" 2.x.
    """
    if _MARK not in data:
        return None
    import c2pa  # it loads slowly, and few files carry Content Credentials

    settings = {**OFFLINE, "trust": {"trust_anchors": trust_anchors}} if trust_anchors else OFFLINE
    try:
        with c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(media_type, io.BytesIO(data), None, context)
            if reader is None:
                return None
            with reader:
                report = reader.json()
        if len(report) > MAX_REPORT_CHARACTERS:
            raise ValueError(f"{len(report):,} characters")
        return _parse_report(json.loads(report), has_list=trust_anchors is not None)
    except (c2pa.C2paError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableMedia(translatable("The Content Credentials (C2PA) in the file are damaged.")) from error


def _parse_report(report: dict[str, Any], *, has_list: bool) -> Credentials:
    manifests = report["manifests"]
    active = manifests[report["active_manifest"]]
    results = report["validation_results"]
    checks = [results["activeManifest"], *(delta["validationDeltas"] for delta in results.get("ingredientDeltas", []))]
    passed = {entry["code"] for entry in checks[0]["success"]}
    failed = dict.fromkeys(entry["code"] for check in checks for entry in check["failure"])
    problems = tuple(sanitize_text(code) for code in failed if not code.startswith(_TRUST_CODES))
    signature = active.get("signature_info") or {}
    names = [signature[key] for key in ("issuer", "common_name") if signature.get(key)]
    return Credentials(
        is_intact=_SIGNATURE_VALID in passed and not problems,
        trust=Trust.TRUSTED if _SIGNER_TRUSTED in passed else Trust.UNTRUSTED if has_list else Trust.UNCHECKED,
        signer=sanitize_text(", ".join(dict.fromkeys(names))) or None,
        signed_at=sanitize_text(signature.get("time") or "") or None,
        made_by=_program(active),
        actions=tuple(sanitize_text(action["action"]) for action in _actions(active)[:MAX_CLAIMS]),
        source_types=_source_types([active, *manifests.values()]),
        problems=problems[:MAX_CLAIMS],
    )


def _program(manifest: dict[str, Any]) -> str | None:
    programs = manifest.get("claim_generator_info")
    if programs:
        return sanitize_text(f"{programs[0]['name']} {programs[0].get('version') or ''}") or None
    return sanitize_text(manifest.get("claim_generator") or "") or None


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    assertions = [one for one in manifest.get("assertions", []) if one["label"].startswith("c2pa.actions")]
    return [action for assertion in assertions for action in assertion["data"]["actions"]]


def _source_types(manifests: list[dict[str, Any]]) -> tuple[str, ...]:
    addresses = [action.get("digitalSourceType") for manifest in manifests for action in _actions(manifest)]
    names = (sanitize_text(address).rpartition("/")[2] for address in addresses if address)
    return tuple(dict.fromkeys(names))[:MAX_CLAIMS]
