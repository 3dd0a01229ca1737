"""Drawing scenes: silhouettes, shades, patterns, backgrounds and clutter.

A silhouette is a list of parts in the unit square of its box. Pictures are drawn at twice their
size and halved, which smooths the edges.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from visavis.data.scenes_world import Scene, SceneConfig, SceneObject

Colour = tuple[int, int, int]
Point = tuple[float, float]
Ink = Colour | int
# A shape, its coordinates in the unit square, and its tone: `fill` is the colour of the object and
# takes the pattern; `shade` is darker, `dark` darker still, `light` lighter.
Part = tuple[str, tuple[float, ...], str]

SMOOTHING = 2
PAINT: dict[str, Colour] = {
    "red": (214, 40, 40), "yellow": (246, 208, 45), "green": (46, 150, 66), "blue": (42, 92, 214),
    "purple": (128, 52, 172), "pink": (246, 138, 190), "brown": (130, 82, 44),
    "black": (28, 28, 32), "white": (248, 248, 248),
}  # fmt: skip
BACKGROUNDS: tuple[Colour, ...] = (
    (226, 222, 208), (205, 221, 232), (212, 228, 205), (228, 210, 196), (205, 205, 208),
    (150, 168, 178), (168, 160, 142), (150, 178, 158), (92, 104, 116), (84, 98, 88),
)  # fmt: skip
CONTRAST = 95.0  # least distance of an object's colour from the background, of 765 at most
SHADE_SPREAD = 12  # how far a colour may be from its paint


SILHOUETTES: dict[str, tuple[Part, ...]] = {  # from back to front; star and heart are computed
    "circle": (("ellipse", (0, 0, 1, 1), "fill"),),
    "square": (("rectangle", (0, 0, 1, 1), "fill"),),
    "triangle": (("polygon", (0.5, 0, 1, 1, 0, 1), "fill"),),
    "cross": (
        ("polygon", (
            0.33, 0, 0.67, 0, 0.67, 0.33, 1, 0.33, 1, 0.67, 0.67, 0.67,
            0.67, 1, 0.33, 1, 0.33, 0.67, 0, 0.67, 0, 0.33, 0.33, 0.33,
        ), "fill"),
    ),
    "ring": (("ring", (0, 0, 1, 1), "fill"),),
    "house": (
        ("rectangle", (0.1, 0.42, 0.9, 1), "fill"),
        ("polygon", (0, 0.46, 0.5, 0, 1, 0.46), "shade"),
        ("rectangle", (0.4, 0.66, 0.6, 1), "dark"),
    ),
    "tree": (
        ("rectangle", (0.4, 0.7, 0.6, 1), "dark"),
        ("polygon", (
            0.5, 0, 0.8, 0.32, 0.68, 0.32, 0.92, 0.58, 0.78, 0.58, 1, 0.84,
            0, 0.84, 0.22, 0.58, 0.08, 0.58, 0.32, 0.32, 0.2, 0.32,
        ), "fill"),
    ),
    "fish": (
        ("polygon", (0.62, 0.5, 1, 0.05, 1, 0.95), "fill"),
        ("ellipse", (0, 0, 0.8, 1), "fill"),
        ("ellipse", (0.14, 0.3, 0.24, 0.44), "dark"),
    ),
    "car": (
        ("polygon", (0.16, 0.5, 0.3, 0, 0.72, 0, 0.88, 0.5), "fill"),
        ("polygon", (0.27, 0.42, 0.35, 0.1, 0.49, 0.1, 0.49, 0.42), "light"),
        ("polygon", (0.55, 0.42, 0.55, 0.1, 0.68, 0.1, 0.77, 0.42), "light"),
        ("rectangle", (0, 0.44, 1, 0.84), "fill"),
        ("ellipse", (0.12, 0.66, 0.36, 1), "dark"),
        ("ellipse", (0.64, 0.66, 0.88, 1), "dark"),
    ),
    "table": (
        ("rectangle", (0.08, 0.2, 0.22, 1), "shade"),
        ("rectangle", (0.78, 0.2, 0.92, 1), "shade"),
        ("rectangle", (0, 0, 1, 0.3), "fill"),
    ),
}  # fmt: skip


@functools.cache
def silhouette(kind: str) -> tuple[Part, ...]:
    """The parts of a kind, from back to front."""
    if kind == "star":
        return (_stretched(_star()),)
    if kind == "heart":
        return (_stretched(_heart()),)
    return SILHOUETTES[kind]


def _star() -> list[Point]:
    corners = []
    for i in range(10):
        radius = 1.0 if i % 2 == 0 else 0.42
        corners.append((radius * math.sin(i * math.pi / 5), -radius * math.cos(i * math.pi / 5)))
    return corners


def _heart() -> list[Point]:
    corners = []
    for i in range(48):
        angle = i * math.pi / 24
        waves = zip((13, -5, -2, -1), (1, 2, 3, 4), strict=True)
        height = sum(size * math.cos(times * angle) for size, times in waves)
        corners.append((16 * math.sin(angle) ** 3, -height))
    return corners


def _stretched(corners: Sequence[Point]) -> Part:
    """A polygon that fills the unit square."""
    xs, ys = zip(*corners, strict=True)
    flat: list[float] = []
    for x, y in corners:
        flat += [(x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys))]
    return "polygon", tuple(flat), "fill"


def draw_scene(scene: Scene, config: SceneConfig) -> Image.Image:
    """The picture of a scene: RGB, `config.size` pixels wide and high.

    Twins share a background, its clutter and the shade of each colour.
    """
    colours = tuple(sorted({item.colour for item in scene.objects}))
    canvas = _background(scene.look, colours, config).copy()
    for item in scene.objects:
        _draw_object(canvas, item, _paint(item.colour, scene.look))
    picture = canvas.reduce(SMOOTHING)
    if config.noise == 0:
        return picture
    grain = _grain(scene.look, config)
    grey = np.asarray(picture, dtype=np.int16) + grain[:, :, None]
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def _paint(name: str, look: int) -> Colour:
    """The colour of a name in one family: near its paint, the same for all twins."""
    rng = random.Random(f"{look} {name}")
    red, green, blue = (
        min(255, max(0, value + rng.randint(-SHADE_SPREAD, SHADE_SPREAD))) for value in PAINT[name]
    )
    return red, green, blue


def _blend(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _tones(colour: Colour) -> dict[str, Colour]:
    bright = sum(colour) > 690
    return {
        "fill": colour,
        "shade": _blend(colour, (0, 0, 0), 0.28),
        "dark": _blend(colour, (0, 0, 0), 0.55),
        "light": (165, 180, 196) if bright else _blend(colour, (255, 255, 255), 0.7),
        "pattern": _blend(colour, (20, 20, 30), 0.42)
        if bright or sum(colour) > 480
        else _blend(colour, (255, 255, 255), 0.6),
    }


def _draw_object(canvas: Image.Image, item: SceneObject, colour: Colour) -> None:
    side = canvas.width
    left, top, right, bottom = (round(edge * side) for edge in item.box)
    width, height = right - left, bottom - top
    tones = _tones(colour)
    tile = Image.new("RGB", (width, height))
    cover = Image.new("L", (width, height))  # where the object is
    plain = Image.new("L", (width, height))  # where its pattern goes
    edge = max(1, round(side / 110))
    pens = [ImageDraw.Draw(image) for image in (tile, cover, plain)]
    for shape, points, tone in silhouette(item.kind):
        inks: tuple[tuple[Ink, Ink], ...] = (
            (tones[tone], tones["dark"]),
            (255, 255),
            (255, 0) if tone == "fill" else (0, 0),
        )
        for pen, ink in zip(pens, inks, strict=True):
            _draw_part(pen, shape, _scaled(points, width, height), (ink[0], ink[1], edge))
    if item.pattern != "plain":
        marks = _pattern(item.pattern, (width, height), side)
        tile.paste(tones["pattern"], mask=ImageChops.multiply(plain, marks))
    canvas.paste(tile, (left, top), cover)


def _scaled(points: Sequence[float], width: int, height: int) -> list[float]:
    return [value * ((width if i % 2 == 0 else height) - 1) for i, value in enumerate(points)]


def _draw_part(
    pen: ImageDraw.ImageDraw, shape: str, points: list[float], ink: tuple[Ink, Ink, int]
) -> None:
    """One part: inside, outline and the outline's width."""
    fill, outline, edge = ink
    if shape == "polygon":
        pen.polygon(points, fill=fill, outline=outline, width=edge)
    elif shape == "rectangle":
        pen.rectangle(points, fill=fill, outline=outline, width=edge)
    elif shape == "ellipse":
        pen.ellipse(points, fill=fill, outline=outline, width=edge)
    else:
        band = round((points[2] - points[0]) * 0.22)
        pen.ellipse(points, outline=outline, width=band)
        inner = [points[0] + edge, points[1] + edge, points[2] - edge, points[3] - edge]
        pen.ellipse(inner, outline=fill, width=band - 2 * edge)


@functools.lru_cache(maxsize=64)
def _pattern(name: str, size: tuple[int, int], side: int) -> Image.Image:
    """Where a pattern colours a tile: slanted stripes or staggered spots."""
    marks = Image.new("L", size)
    pen = ImageDraw.Draw(marks)
    width, height = size
    step = side * 0.058
    if name == "striped":
        for i in range(-int(height / step) - 1, int(width / step) + 1):
            x = i * step
            pen.line((x, height, x + height, 0), fill=255, width=round(step * 0.27))
        return marks
    radius = step * 0.27
    for row in range(int(height / step) + 2):
        for column in range(int(width / step) + 2):
            x, y = (column + row % 2 / 2) * step, row * step * 0.9
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return marks


@functools.lru_cache(maxsize=2)
def _background(look: int, colours: tuple[str, ...], config: SceneConfig) -> Image.Image:
    """A blotchy, slanting shade that every object stands out from, with clutter on it."""
    rng = random.Random(f"{look} background")
    base = _contrasting(rng, colours)
    side = config.size * SMOOTHING
    slope = rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)
    cells = 8
    coarse = bytes(
        round(128 + slope[0] * (x - cells / 2) + slope[1] * (y - cells / 2) + rng.uniform(-6, 6))
        for y in range(cells)
        for x in range(cells)
    )
    shade = Image.frombytes("L", (cells, cells), coarse).resize((side, side))
    canvas = Image.merge(
        "RGB",
        [shade.point([min(255, max(0, value + i - 128)) for i in range(256)]) for value in base],
    )
    pen = ImageDraw.Draw(canvas)
    for _ in range(config.clutter):
        step = rng.choice((-1, 1)) * rng.randint(22, 42)
        red, green, blue = (min(255, max(0, value + step + rng.randint(-9, 9))) for value in base)
        x, y = rng.random() * side, rng.random() * side
        if rng.random() < 0.5:
            end = x + rng.uniform(-0.4, 0.4) * side, y + rng.uniform(-0.4, 0.4) * side
            pen.line((x, y, *end), fill=(red, green, blue), width=max(1, side // 180))
        else:
            radius = rng.uniform(0.006, 0.014) * side
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))
    return canvas


def _contrasting(rng: random.Random, colours: Sequence[str]) -> Colour:
    """A background that differs from every paint enough, or as much as one can."""

    def contrast(base: Colour) -> int:
        return min(
            sum(abs(a - b) for a, b in zip(base, PAINT[name], strict=True)) for name in colours
        )

    order = rng.sample(BACKGROUNDS, len(BACKGROUNDS))
    return next((base for base in order if contrast(base) >= CONTRAST), max(order, key=contrast))


@functools.lru_cache(maxsize=2)
def _grain(look: int, config: SceneConfig) -> NDArray[np.int16]:
    """Noise of one family in grey levels: (size, size)."""
    noise = np.random.default_rng(look).standard_normal((config.size, config.size))
    return np.rint(config.noise * noise).astype(np.int16)
