"""Pictures that are sent: bombs, fragments and what only calls itself a picture."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.integration.serving import fake, is_problem, picture, serving
from tests.served import FakeIndex
from visavis.server.settings import ServeConfig

SMALL = ServeConfig(upload_megabytes=1, json_kilobytes=64, megapixels=2.0)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>'


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[TestClient]:
    with serving(fake(data), SMALL) as found:
        yield found


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(name: bytes, held: bytes) -> bytes:
        return (
            struct.pack(">I", len(held)) + name + held + struct.pack(">I", zlib.crc32(name + held))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF directory of entries: tag, type, count, value."""
    held = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + held
        + struct.pack("<I", following)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 415),
        (b"not a picture", 415),
        (SVG, 415),
        (b"\xef\xbb\xbf" + SVG, 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", 415),
        (b"%PDF-1.4\n", 415),
        (b"GIF89a" + b"\0" * 20, 415),
        (b"\x89PNG\r\n\x1a\n", 415),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, 415),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ", 415),
        (b"BM" + b"\xff" * 60, 415),
        (picture((300, 300))[:200], 415),
        (png(60_000, 60_000), 413),
        (png(2_000_000_000, 2_000_000_000), 413),
        (png(1500, 1500), 413),
        (png(1000, 1000), 415),  # within the limit, but its rows are not there
        (tiff(), 415),
        (tiff((256, 4, 1, 100_000), (257, 4, 1, 100_000)), 413),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), following=8), 415),  # its own next directory
        (
            tiff((256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 0xFFFFFFFF, 8), (279, 4, 0xFFFFFFFF, 8)),
            415,
        ),
        (tiff((256, 5, 1, 0), (257, 5, 1, 0)), 415),
    ],
)
def test_what_is_no_sound_picture_is_refused(client: TestClient, sent: bytes, status: int) -> None:
    for path in ("/v1/captions", "/v1/search/image"):
        answer = client.post(path, files={"image": ("a.jpg", sent, "image/jpeg")})
        assert answer.status_code in {status, 413, 415}
        is_problem(answer, answer.status_code)


def test_a_decompression_bomb_is_not_unpacked(client: TestClient) -> None:
    bomb = png(40_000, 40_000, b"\0" * 50_000_000)
    assert len(bomb) < 200_000
    is_problem(client.post("/v1/captions", files={"image": ("a.png", bomb)}), 413)


def test_animations_give_their_first_frame_however_many_follow(client: TestClient) -> None:
    held = io.BytesIO()
    frames = [Image.new("P", (40, 40), colour % 250) for colour in range(300)]
    frames[0].save(held, format="GIF", save_all=True, append_images=frames[1:])
    assert client.post("/v1/captions", files={"image": ("a", held.getvalue())}).status_code == 200


class Keeping(FakeIndex):
    """Indexes what it is given, as the real one names it."""

    def add(self, paths: list[Path], **_: object) -> object:
        from visavis.search.answers import Report

        (path,) = paths
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.sizes[name] = (1, 1)
        self.kept = {**getattr(self, "kept", {}), name: path}
        return Report(1, 0, 0, [], 0.0, (name,))

    def picture(self, image_id: str) -> Path:
        self._known(image_id)
        return getattr(self, "kept", {}).get(image_id) or super().picture(image_id)

    def remove(self, ids: list[str]) -> int:  # type: ignore[override]
        return sum(self.sizes.pop(one, None) is not None for one in ids)


def test_a_picture_that_is_put_lies_in_the_folder_under_its_own_name(
    data: Path, tmp_path: Path
) -> None:
    index = Keeping(data / "scenes" / "images")
    folder = tmp_path / "uploads"
    sent = picture(form="JPEG")
    name = hashlib.sha256(sent).hexdigest()[:16]
    headers = {"content-type": "image/png"}  # what it is called makes no difference
    with serving(index, ServeConfig(uploads=str(folder))) as client:
        put = client.put(f"/v1/images/{name}", content=sent, headers=headers)
        assert put.status_code == 201
        assert [path.name for path in folder.iterdir()] == [f"{name}.jpg"]
        assert client.get(put.json()["image_url"]).content == sent
        again = client.put(f"/v1/images/{name}", content=sent, headers=headers)
        assert again.status_code == 200
        is_problem(client.put("/v1/images/0123456789abcdef", content=sent, headers=headers), 409)
        svg = hashlib.sha256(SVG).hexdigest()[:16]
        is_problem(client.put(f"/v1/images/{svg}", content=SVG, headers=headers), 415)
        assert client.delete(f"/v1/images/{name}").status_code == 204
        assert list(folder.iterdir()) == []
