"""Sign test pictures with Content Credentials: a root certificate, and a signer below it.

The keys are published in RFC 8032, section 7.1 (tests 1 to 3), so they are not secret. The certificates are written
byte by byte (ITU-T X.690, RFC 5280), which avoids a library that only tests would need.
"""

import base64
import io
import json
from functools import cache

import c2pa
from c2pa.c2pa import ed25519_sign

KEYS = {  # secret, public
    "root": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    "signer": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    "stranger": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
}
NAMES = {  # common name, organisation
    "root": ("Root of the Tests", "Test Authority"),
    "signer": ("Camera of the Tests", "Test Maker"),
    "stranger": ("Another Root", "Another Authority"),
}
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def der(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x82, size >> 8, size & 255])
    return bytes([tag]) + length + body


def oid(*arcs):
    numbers = [arcs[0] * 40 + arcs[1]]
    for arc in arcs[2:]:
        digits = [arc & 127]
        while arc := arc >> 7:
            digits.append(arc & 127 | 128)
        numbers += reversed(digits)
    return der(6, bytes(numbers))


ED25519 = der(0x30, oid(1, 3, 101, 112))


def pem(kind, content):
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----\n"


def private_key(owner):
    seed = bytes.fromhex(KEYS[owner][0])
    return pem("PRIVATE KEY", der(0x30, der(2, b"\0"), ED25519, der(4, der(4, seed))))


def name(owner):
    common, organisation = NAMES[owner]
    parts = ((10, organisation), (3, common))
    return der(0x30, *(der(0x31, der(0x30, oid(2, 5, 4, kind), der(0x0C, text.encode()))) for kind, text in parts))


@cache
def certificate(owner, issuer):
    def extension(number, content, critical=b""):
        return der(0x30, oid(2, 5, 29, number), critical, der(4, content))

    is_root, critical = owner == issuer, der(1, b"\xff")
    extensions = [
        extension(19, der(0x30, critical if is_root else b""), critical),  # whether it may sign other certificates
        extension(15, der(3, b"\x01\x06" if is_root else b"\x07\x80"), critical),  # the allowed uses
        extension(14, der(4, owner.encode())),
        extension(35, der(0x30, der(0x80, issuer.encode()))),
    ]
    if not is_root:
        extensions.append(extension(37, der(0x30, oid(1, 3, 6, 1, 5, 5, 7, 3, 4))))
    content = der(
        0x30,
        der(0xA0, der(2, b"\x02")),
        der(2, b"\x01" if is_root else b"\x02"),
        ED25519,
        name(issuer),
        der(0x30, der(0x17, b"240101000000Z"), der(0x17, b"491231235959Z")),
        name(owner),
        der(0x30, ED25519, der(3, b"\0" + bytes.fromhex(KEYS[owner][1]))),
        der(0xA3, der(0x30, *extensions)),
    )
    signature = ed25519_sign(content, private_key(issuer))
    return pem("CERTIFICATE", der(0x30, content, ED25519, der(3, b"\0" + signature)))


def root_certificate(owner="root"):
    """Return the certificate (PEM) of a root; the stranger's has signed no other certificate."""
    return certificate(owner, owner)


def sign(picture, media_type, *, source_type="digitalCapture", remote_url=None):
    """Return a picture with Content Credentials, or with a remote address of them, and the credentials."""
    chain = certificate("signer", "root") + root_certificate()
    keys = c2pa.C2paSignerInfo("ed25519", chain.encode(), private_key("signer").encode(), None)
    created = {"action": "c2pa.created", "digitalSourceType": f"{SOURCES}{source_type}"}
    claims = {
        "claim_generator_info": [{"name": "Generator of the Tests", "version": "1.0"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    settings = {"version": 1, "builder": {"thumbnail": {"enabled": False}}}
    signed = io.BytesIO()
    with (
        c2pa.Context.from_dict(settings) as context,
        c2pa.Signer.from_info(keys) as signer,
        c2pa.Builder(json.dumps(claims), context) as builder,
    ):
        if remote_url:
            builder.set_no_embed()
            builder.set_remote_url(remote_url)
        credentials = builder.sign(signer, media_type, io.BytesIO(picture), signed)
    return signed.getvalue(), credentials
