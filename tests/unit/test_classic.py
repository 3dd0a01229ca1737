"""The extractor without a download: tight boxes and clean descriptors on drawn shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visavis.data.scenes import SceneConfig, draw_scene, sample_scenes
from visavis.errors import RecipeError
from visavis.extract.base import Regions
from visavis.extract.boxes import iou
from visavis.extract.classic import ClassicConfig, ClassicExtractor
from visavis.extract.descriptors import BLOCKS
from visavis.extract.table import make_extractor

GREY, RED, BLUE = (205, 205, 200), (210, 30, 30), (40, 60, 210)
SIDE = 224
# Descriptor columns of hues: 12 dark ones, then 12 bright ones, each 30 degrees wide.
BRIGHT_RED, BRIGHT_BLUE = 12, 12 + 8

Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def extractor() -> ClassicExtractor:
    return ClassicExtractor(ClassicConfig())


def block(regions: Regions, name: str) -> NDArray[np.float32]:
    start = 0
    for other, (width, _) in BLOCKS.items():
        if other == name:
            return regions.vectors[:, start : start + width]
        start += width
    raise AssertionError(name)


def best(regions: Regions, box: Box) -> tuple[int, float]:
    """The region that overlaps a box most, and by how much."""
    overlap = iou(np.array([box], dtype=np.float32), regions.boxes)[0]
    return int(overlap.argmax()), float(overlap.max())


def corners(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    count = {"triangle": 3, "square": 4, "star": 10}[shape]
    turn = math.pi / 4 if shape == "square" else -math.pi / 2
    points = []
    for k in range(count):
        reach = radius * (0.42 if shape == "star" and k % 2 else 1)
        angle = turn + 2 * math.pi * k / count
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def draw(*shapes: tuple[str, float, float, float, tuple[int, int, int]]) -> Image.Image:
    """Shapes as (name, x, y, radius, colour), smoothed by drawing them twice as large."""
    large = Image.new("RGB", (2 * SIDE, 2 * SIDE), GREY)
    pen = ImageDraw.Draw(large)
    for shape, x, y, radius, colour in shapes:
        x, y, radius = 2 * x, 2 * y, 2 * radius
        if shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            pen.polygon(corners(shape, x, y, radius), fill=colour)
    return large.reduce(2)


def box_of(shape: str, x: float, y: float, radius: float) -> Box:
    xs, ys = (x - radius, x + radius), (y - radius, y + radius)
    if shape != "circle":
        xs, ys = zip(*corners(shape, x, y, radius), strict=True)  # type: ignore[assignment]
    return min(xs) / SIDE, min(ys) / SIDE, max(xs) / SIDE, max(ys) / SIDE


def test_every_picture_gives_36_regions_inside_it(extractor: ClassicExtractor) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    found = extractor.extract([draw(("star", 60, 60, 30, RED)), Image.fromarray(noise)])
    for regions in found:
        assert regions.vectors.shape == (36, extractor.dim)
        assert regions.vectors.dtype == regions.boxes.dtype == np.float32
        assert np.isfinite(regions.vectors).all()
        assert (regions.boxes >= 0).all()
        assert (regions.boxes <= 1).all()
        assert (regions.boxes[:, :2] < regions.boxes[:, 2:]).all()
    assert found[1].size == (120, 90)


@pytest.mark.parametrize("size", [(1, 1), (700, 3), (2, 900), (48, 31), (640, 480)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_odd_sizes_and_flat_pictures_work(
    extractor: ClassicExtractor, size: tuple[int, int], mode: str
) -> None:
    regions = extractor.extract([Image.new(mode, size, "white")])[0]
    assert regions.vectors.shape == (36, extractor.dim)
    assert np.isfinite(regions.vectors).all()
    assert regions.size == size


def test_two_extractors_give_the_same_bytes() -> None:
    picture = draw(("star", 60, 60, 30, RED), ("circle", 160, 150, 25, BLUE))
    first, second = (ClassicExtractor(ClassicConfig()).extract([picture])[0] for _ in range(2))
    assert first.vectors.tobytes() == second.vectors.tobytes()
    assert first.boxes.tobytes() == second.boxes.tobytes()


def test_a_red_square_at_the_left_gets_a_tight_red_box(extractor: ClassicExtractor) -> None:
    picture = Image.new("RGB", (SIDE, SIDE), GREY)
    picture.paste(RED, (20, 90, 60, 130))
    regions = extractor.extract([picture])[0]
    region, overlap = best(regions, (20 / SIDE, 90 / SIDE, 60 / SIDE, 130 / SIDE))
    assert overlap > 0.85
    assert block(regions, "colour")[region].argmax() == BRIGHT_RED


def test_a_mirrored_picture_gives_mirrored_boxes(extractor: ClassicExtractor) -> None:
    picture = draw(("square", 50, 70, 30, RED), ("circle", 160, 140, 26, BLUE))
    straight = extractor.extract([picture])[0]
    mirrored = extractor.extract([picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])[0]
    for shape in (("square", 50, 70, 30), ("circle", 160, 140, 26)):
        region, _ = best(straight, box_of(*shape))
        x1, y1, x2, y2 = (float(v) for v in straight.boxes[region])
        _, overlap = best(mirrored, (1 - x2, y1, 1 - x1, y2))
        assert overlap > 0.85


def test_looks_and_place_are_told_apart(extractor: ClassicExtractor) -> None:
    def of(shape: str, x: float, y: float, colour: tuple[int, int, int]) -> NDArray[np.float32]:
        regions = extractor.extract([draw((shape, x, y, 32, colour))])[0]
        region, overlap = best(regions, box_of(shape, x, y, 32))
        assert overlap > 0.75
        return regions.vectors[region]

    def likeness(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))

    places = BLOCKS["place"][0]  # the last block
    star, moved = of("star", 50, 60, RED), of("star", 150, 140, RED)
    other = of("circle", 50, 60, BLUE)
    assert likeness(star[:-places], moved[:-places]) > 0.95
    assert likeness(star[:-places], other[:-places]) < 0.7
    assert likeness(star[-places:], moved[-places:]) < 0.6
    assert likeness(star[-places:], other[-places:]) > 0.95


def test_the_same_shape_elsewhere_is_nearer_than_another_shape(extractor: ClassicExtractor) -> None:
    shapes = ("circle", "square", "triangle", "star")

    def outline(shape: str, x: float, y: float) -> NDArray[np.float32]:
        regions = extractor.extract([draw((shape, x, y, 30, BLUE))])[0]
        region, _ = best(regions, box_of(shape, x, y, 30))
        parts = [block(regions, name)[region] for name in ("outline", "corners")]
        return np.concatenate(parts)

    first = np.stack([outline(shape, 60, 60) for shape in shapes])
    second = np.stack([outline(shape, 151, 142) for shape in shapes])
    distances = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2, 3]


def test_a_thing_keeps_its_own_colour_beside_another(extractor: ClassicExtractor) -> None:
    picture = draw(("circle", 70, 100, 28, RED), ("circle", 128, 100, 28, BLUE))
    regions = extractor.extract([picture])[0]
    for x, hue in ((70, BRIGHT_RED), (128, BRIGHT_BLUE)):
        region, overlap = best(regions, box_of("circle", x, 100, 28))
        assert overlap > 0.8
        colours = block(regions, "colour")[region]
        assert colours.argmax() == hue
        assert colours[hue] ** 2 > 0.6 * (colours**2).sum()


def test_things_in_cluttered_scenes_get_their_own_boxes(extractor: ClassicExtractor) -> None:
    config = SceneConfig(images=20, val=3, test=3)
    overlaps = []
    for scene in sample_scenes(config):
        regions = extractor.extract([draw_scene(scene, config)])[0]
        overlaps += [best(regions, thing.box)[1] for thing in scene.objects]
    assert len(overlaps) >= 40
    assert np.mean(np.array(overlaps) > 0.5) >= 0.97
    assert np.mean(overlaps) > 0.85


def test_the_last_regions_are_the_cells_of_a_grid(extractor: ClassicExtractor) -> None:
    regions = extractor.extract([draw(("circle", 70, 100, 28, RED))])[0]
    cells = [[x / 4, y / 4, (x + 1) / 4, (y + 1) / 4] for y in range(4) for x in range(4)]
    np.testing.assert_allclose(regions.boxes[-16:], cells, atol=1e-6)


def test_other_numbers_of_regions_work() -> None:
    extractor = ClassicExtractor(ClassicConfig(regions=12, cells=3))
    regions = extractor.extract([draw(("circle", 70, 100, 28, RED))])[0]
    assert len(regions.boxes) == extractor.max_regions == 12


def test_too_few_regions_for_the_grid_are_refused() -> None:
    with pytest.raises(RecipeError, match="17 regions do not hold a grid of 4 x 4"):
        make_extractor("classic", {"regions": 17})


def test_the_identity_tells_options_apart() -> None:
    first, second = (ClassicExtractor(ClassicConfig(regions=n)).identity for n in (36, 24))
    assert first.extractor == "classic"
    assert first.options["regions"] == 36
    assert first.digest != second.digest
    assert first == ClassicExtractor(ClassicConfig()).identity
