"""Reading picture files: which are found, and that every kind comes out upright and RGB."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from visavis.errors import DataError
from visavis.extract.pictures import LONGEST_SIDE, list_pictures, load_picture, read_picture

RED, BLUE = (200, 20, 20), (20, 20, 200)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red at the left, blue at the right."""
    picture = Image.new("RGB", (width, height), BLUE)
    picture.paste(RED, (0, 0, width // 2, height))
    return picture


def colour_at(picture: Image.Image, x: float, y: float) -> tuple[int, ...]:
    width, height = picture.size
    value = picture.getpixel((int(x * width), int(y * height)))
    assert isinstance(value, tuple)
    return tuple(int(part) for part in value)


def near(got: tuple[int, ...], wanted: tuple[int, ...], slack: int = 12) -> bool:
    return all(abs(a - b) <= slack for a, b in zip(got, wanted, strict=True))


def test_pictures_are_listed_by_path_without_hidden_files_and_litter(tmp_path: Path) -> None:
    for name in (
        "b.JPG", "a/z.png", "a/b.webp", "c.tiff", "d.gif", "e.bmp", "f.jpeg", "g.tif",
        ".hidden.jpg", "._b.JPG", ".cache/x.png", "__MACOSX/b.jpg", "@eaDir/b.jpg",
        "Thumbs.db", "notes.txt", "jpg",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path)]
    assert names == [
        "a/b.webp", "a/z.png", "b.JPG", "c.tiff", "d.gif", "e.bmp", "f.jpeg", "g.tif",
    ]  # fmt: skip


def test_a_folder_in_a_hidden_place_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".private" / "thumbs"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"")
    assert list_pictures(folder) == [folder / "a.jpg"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no picture"):
        list_pictures(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_pictures(tmp_path / "none")


# Where the red half of `halves` is seen, for each EXIF orientation, by the standard's table:
# 1 as stored, 2 mirrored, 3 turned half around, 4 upside down, 5 to 8 with width and height
# swapped (5 and 6 bring the left to the top, 7 and 8 to the bottom).
SEEN = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}
PLACE = {"left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8)}


@pytest.mark.parametrize("orientation", sorted(SEEN))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = read_picture(tmp_path / "a.jpg")
    expected = (40, 20) if orientation <= 4 else (20, 40)
    assert picture.image.size == picture.size == expected
    assert near(colour_at(picture.image, *PLACE[SEEN[orientation]]), RED)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert near(colour_at(load_picture(tmp_path / name), 0.5, 0.5), RED, slack=20), name


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (8, 8), (*RED, 0))
    picture.paste((*RED, 255), (0, 0, 4, 8))
    picture.save(tmp_path / "a.png")
    loaded = load_picture(tmp_path / "a.png")
    assert colour_at(loaded, 0.2, 0.5) == RED
    assert colour_at(loaded, 0.8, 0.5) == (255, 255, 255)


def test_a_half_transparent_pixel_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert near(colour_at(load_picture(tmp_path / "a.png"), 0.5, 0.5), (127, 127, 127), slack=1)


def test_a_palette_with_a_transparent_colour_is_read(tmp_path: Path) -> None:
    palette = halves().quantize(2)
    transparent = palette.getpixel((30, 10))
    palette.save(tmp_path / "a.png", transparency=transparent)
    loaded = load_picture(tmp_path / "a.png")
    assert near(colour_at(loaded, 0.2, 0.5), RED)
    assert colour_at(loaded, 0.8, 0.5) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.jpg"), ("L", "a.png"), ("LA", "a.png"), ("1", "a.png"), ("1", "a.tif")],
)
def test_grey_and_black_and_white_become_rgb(tmp_path: Path, mode: str, name: str) -> None:
    Image.new("L", (8, 8), 255).convert(mode).save(tmp_path / name)
    loaded = load_picture(tmp_path / name)
    assert loaded.mode == "RGB"
    assert colour_at(loaded, 0.5, 0.5) == (255, 255, 255)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_keeps_its_colours(tmp_path: Path, name: str) -> None:
    halves().convert("CMYK").save(tmp_path / name)
    loaded = load_picture(tmp_path / name)
    assert near(colour_at(loaded, 0.2, 0.5), RED, slack=30)
    assert near(colour_at(loaded, 0.8, 0.5), BLUE, slack=30)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    grey = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / name)
    values = np.asarray(load_picture(tmp_path / name))
    assert values[0, :, 0].tolist() == [0, 100, 255]


def test_fractions_become_eight_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32)).save(tmp_path / "a.tif")
    values = np.asarray(load_picture(tmp_path / "a.tif"))
    assert values[0, :, 0].tolist() == [0, 128, 255, 0]


def test_a_large_picture_is_reduced_and_keeps_its_size_on_record(tmp_path: Path) -> None:
    halves(4000, 1000).save(tmp_path / "a.jpg")
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.size == (4000, 1000)
    assert picture.image.size == (LONGEST_SIDE, LONGEST_SIDE // 4)


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    assert ImageOps.grayscale(load_picture(tmp_path / "a.png")).size == (40, 20)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), halves())


def test_the_file_name_stays_with_the_picture(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").info == {"filename": "a.png"}


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"40 x 20 pixels, at most 0\.0001 megapixels"):
        load_picture(tmp_path / "a.png", max_megapixels=0.0001)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    # A header that promises 100,000 x 100,000 pixels; nothing behind it.
    png = bytearray(encoded("PNG"))
    png[16:24] = (100_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(bytes(png))
    with pytest.raises(DataError):
        load_picture(tmp_path / "a.png")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_picture(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        load_picture(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


@functools.cache
def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(stream, format=kind)
    return stream.getvalue()


KINDS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_picture_cut_in_half_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{KINDS[kind]}"
    path.write_bytes(encoded(kind)[: len(encoded(kind)) // 2])
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        load_picture(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # decoders warn of odd metadata
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    at=st.floats(0, 1, exclude_max=True),
    damage=st.binary(min_size=1, max_size=12),
)
def test_damaged_bytes_give_a_picture_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, at: float, damage: bytes
) -> None:
    content = bytearray(encoded(kind))
    start = int(at * len(content))
    content[start : start + len(damage)] = damage
    path = tmp_path_factory.getbasetemp() / f"damaged.{KINDS[kind]}"
    path.write_bytes(bytes(content))
    try:
        assert load_picture(path, max_megapixels=1).mode == "RGB"
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017  (either end is right)


def test_postscript_that_is_called_a_jpeg_starts_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *words, **_: started.append(words))
    path = tmp_path / "picture.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match="cannot be decoded"):
        read_picture(path)
    assert started == []
