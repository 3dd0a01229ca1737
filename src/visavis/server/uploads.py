"""Pictures that clients send to be kept: named after their content, inside one folder."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.errors import VisavisError
from visavis.files import atomic_path
from visavis.server.pictures import KINDS, suffix_of
from visavis.server.problems import Refused

if TYPE_CHECKING:
    from visavis.search.index import Index
    from visavis.server.service import Service

ID_LENGTH = 16  # hexadecimal digits of the SHA-256, as the index names pictures


def id_of(picture: bytes) -> str:
    """The id that a picture's bytes give it."""
    return hashlib.sha256(picture).hexdigest()[:ID_LENGTH]


def keep(service: Service, folder: Path, image_id: str, picture: bytes) -> bool:
    """Keep a picture and index it; False when it was there already.

    Raises:
        Refused: another id than its content gives it, or no picture that can be indexed.
    """
    if image_id != id_of(picture):
        raise Refused(409, "a picture's id is the first 16 digits of its SHA-256")
    suffix = suffix_of(picture, service.config.megapixels)
    if service.holds(image_id):
        return False
    path = folder / f"{image_id}{suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)
    try:
        report = service.index.add([path])
    except VisavisError:
        path.unlink(missing_ok=True)
        raise
    if image_id not in report.ids:
        path.unlink(missing_ok=True)
        raise Refused(415, f"the picture cannot be indexed; send {KINDS}")
    return True


def drop(index: Index, folder: Path | None, image_id: str) -> bool:
    """Take a picture out of the index; a file that was kept here goes with it, others stay."""
    path = None
    with contextlib.suppress(VisavisError):  # its file may be gone
        path = index.picture(image_id)
    if index.remove([image_id]) == 0:
        return False
    if path is not None and folder is not None and path.parent == folder:
        path.unlink(missing_ok=True)
    return True
