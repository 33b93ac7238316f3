"""Read evidence bundles, and pack them again with something changed."""

import io
import json
import zipfile


def members(bundle):
    """Return {name: bytes} of the files in a ZIP archive."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files, compression=zipfile.ZIP_STORED):
    """Return a ZIP archive of {name: content}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def changed_record(bundle, change):
    """Return the bundle after `change(record)`."""
    files = members(bundle)
    record = json.loads(files["detection.json"])
    change(record)
    return packed({**files, "detection.json": json.dumps(record)})
