"""What a region looks like, in numbers that need no learning: colour, shape, gradients, texture.

All regions of a picture are described at once: each is sampled on the same S x S raster, with the
mask of the pixels that belong to it.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
RASTER = 24  # samples S on each side of a region
HUES, GREYS, ORIENTATIONS, ANGLES = 12, 4, 8, 36
_COLOURS = 2 * HUES + GREYS
BLOCKS = {  # name: (width, weight); each block is scaled to a length of at most its weight
    "colour": (_COLOURS, 1.0),
    "tint": (7, 0.5),
    "outline": (36, 0.7),
    "corners": (12, 1.0),
    "gradients": (9 * ORIENTATIONS, 0.7),
    "texture": (10, 0.4),
    "place": (26, 1.0),
}
DIM = sum(width for width, _ in BLOCKS.values())


def pixel_maps(rgb: NDArray[np.uint8], lab: Array) -> Array:
    """Everything that is counted inside regions, per pixel: (h, w, C)."""
    parts = [_colour_bins(rgb), lab, lab**2, _orientation_bins(lab), _binary_patterns(lab[..., 0])]
    return np.concatenate(parts, axis=2, dtype=np.float32)


def describe(
    maps: Array, boxes: Array, labels: NDArray[np.int64], members: NDArray[np.bool_]
) -> Array:
    """Descriptors of regions.

    Args:
        maps: (h, w, C), from `pixel_maps`.
        boxes: (R, 4), fractions.
        labels: (h, w), the segment of each pixel.
        members: (R, segments), which segments belong to each region.

    Returns:
        (R, DIM).
    """
    rows, columns = (
        _raster(boxes[:, 1::2], labels.shape[0]),
        _raster(boxes[:, ::2], labels.shape[1]),
    )
    at = rows[:, :, None] * labels.shape[1] + columns[:, None, :]  # (R, S, S)
    regions = np.arange(len(boxes))[:, None, None]
    mask = members[regions, labels.ravel()[at]].astype(np.float32)  # (R, S, S)
    values = maps.reshape(-1, maps.shape[2])[at]  # (R, S, S, C)
    inside = mask / np.maximum(mask.sum(axis=(1, 2), keepdims=True), 1)
    means = np.einsum("rst,rstc->rc", inside, values, optimize=True)  # (R, C)
    colour, lab, square, edges, texture = np.split(means, _CUTS, axis=1)
    gradients = values[..., _CUTS[2] : _CUTS[3]]
    blocks = {
        "colour": np.sqrt(colour),
        "tint": _tint(lab, square, edges),
        "outline": _cells(mask[..., None], 6),
        "corners": _corners(mask, boxes * np.tile(labels.shape[::-1], 2)),
        "gradients": _histograms(gradients),
        "texture": np.sqrt(texture),
        "place": _place(boxes),
    }
    return np.concatenate(
        [_scaled(blocks[name], weight) for name, (_, weight) in BLOCKS.items()], axis=1
    )


_CUTS = [_COLOURS, _COLOURS + 3, _COLOURS + 6, _COLOURS + 6 + ORIENTATIONS]


def _colour_bins(rgb: NDArray[np.uint8]) -> Array:
    """Shares of each pixel in dark hues, bright hues and greys; they add up to 1: (h, w, bins)."""
    red, green, blue = (rgb[..., k].astype(np.int64) >> 3 for k in range(3))
    shares: Array = _colour_table()[(red << 10) | (green << 5) | blue]
    return shares


@functools.cache
def _colour_table() -> Array:
    """The shares of every colour in steps of 8, made once: (32 * 32 * 32, bins)."""
    steps = np.arange(32**3)
    levels = np.stack([steps >> 10, (steps >> 5) & 31, steps & 31], axis=1)
    scaled = (levels / 31).astype(np.float32)
    value, low = scaled.max(axis=1), scaled.min(axis=1)
    chroma = value - low
    safe = np.maximum(chroma, 1e-6)
    red, green, blue = (scaled[..., k] for k in range(3))
    sector = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hues = _soft_bins(sector * (HUES / 6), HUES, wrap=True)
    greys = _soft_bins(value * (GREYS - 1), GREYS, wrap=False)
    coloured = ((chroma - 0.05) / 0.15).clip(0, 1)[..., None]
    bright = ((value - 0.4) / 0.4).clip(0, 1)[..., None]
    shares = [hues * coloured * (1 - bright), hues * coloured * bright, greys * (1 - coloured)]
    return np.concatenate(shares, axis=1)


def _orientation_bins(lab: Array) -> Array:
    """The strongest channel's gradient, shared among directions without sign: (h, w, bins)."""
    down, across = np.gradient(lab, axis=(0, 1))  # (h, w, 3) each
    strongest = (down**2 + across**2).argmax(axis=2)[..., None]
    down = np.take_along_axis(down, strongest, axis=2)[..., 0]
    across = np.take_along_axis(across, strongest, axis=2)[..., 0]
    angle = np.arctan2(down, across) % np.pi
    strength = np.hypot(down, across)[..., None]
    bins: Array = _soft_bins(angle * (ORIENTATIONS / np.pi), ORIENTATIONS, wrap=True) * strength
    return bins


def _binary_patterns(lightness: Array) -> Array:
    """Uniform local binary patterns (Ojala et al., 2002) as one-hot maps: (h, w, 10)."""
    from skimage.feature import local_binary_pattern

    # Steps of 4 in lightness: sensor noise makes no texture.
    steps = (lightness / 4).round().astype(np.uint8)
    patterns = local_binary_pattern(steps, 8, 1, "uniform").astype(np.int64)
    maps: Array = np.eye(10, dtype=np.float32)[patterns]
    return maps


def _soft_bins(at: NDArray[np.floating], bins: int, *, wrap: bool) -> Array:
    """A value between two bins counts in both, by nearness: (...,) to (..., bins)."""
    distance = np.abs(at[..., None] - np.arange(bins, dtype=np.float32))
    if wrap:
        distance = np.minimum(distance, bins - distance)
    shares: Array = (1 - distance).clip(min=0)
    return shares


def _raster(ends: Array, pixels: int) -> NDArray[np.int64]:
    """Pixel positions of the raster's lines along one side: (R, 2) to (R, S)."""
    middles = (np.arange(RASTER) + 0.5) / RASTER
    at = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * middles
    return (at * pixels).astype(np.int64).clip(0, pixels - 1)


def _cells(values: Array, cells: int) -> Array:
    """Means over cells x cells parts of the raster, flattened: (R, S, S, C) to (R, cells² C)."""
    step = RASTER // cells
    parts = values.reshape(len(values), cells, step, cells, step, -1)
    means: Array = parts.mean(axis=(2, 4)).reshape(len(values), -1)
    return means


def _histograms(gradients: Array) -> Array:
    """Square-rooted orientation histograms of 3 x 3 cells, as shares of the whole region's."""
    cells = _cells(gradients, 3)
    roots: Array = np.sqrt(cells / (cells.sum(axis=1, keepdims=True) + 1.0))
    return roots


def _tint(lab: Array, square: Array, edges: Array) -> Array:
    """Mean and spread of the colour, and how much goes on inside."""
    spread = np.sqrt((square - lab**2).clip(min=0))
    strength = np.log1p(edges.sum(axis=1, keepdims=True))
    return np.concatenate([lab / 100 - [0.5, 0, 0], spread / 50, strength / 5], axis=1)


def _corners(mask: Array, sides: Array) -> Array:
    """How the outline's distance from its centre varies around it, whatever the turn.

    The strength of harmonic k says how much of a k-fold shape there is: 3 for a triangle, 4 for
    a square, 5 for a star, none for a circle (Fourier descriptors, Zahn and Roskies 1972).
    """
    middles = (np.arange(RASTER, dtype=np.float32) + 0.5) / RASTER
    width, height = (sides[:, 2:] - sides[:, :2]).T  # in pixels
    count = np.maximum(mask.sum(axis=(1, 2)), 1)
    centre_x = (mask.sum(axis=1) @ middles) / count
    centre_y = (mask.sum(axis=2) @ middles) / count
    x = ((middles - centre_x[:, None]) * width[:, None])[:, None, :]  # (R, 1, S)
    y = ((middles - centre_y[:, None]) * height[:, None])[:, :, None]  # (R, S, 1)
    radius = np.hypot(x, y) * mask
    turn = (np.arctan2(y, x) / (2 * np.pi) * ANGLES).round().astype(np.int64) % ANGLES
    profile = np.zeros((len(mask), ANGLES), dtype=np.float32)
    regions = np.broadcast_to(np.arange(len(mask))[:, None, None], turn.shape)
    np.maximum.at(profile, (regions, turn), radius)
    harmonics = np.abs(np.fft.rfft(profile, axis=1))
    shares = 4 * harmonics[:, 2:10] / np.maximum(harmonics[:, :1], 1e-6)
    longest = np.maximum(profile.max(axis=1), 1e-6)
    rest = [
        count / RASTER**2,
        np.log2((width / height).clip(0.125, 8)) / 3,
        profile.mean(axis=1) / longest,
        profile.min(axis=1) / longest,
    ]
    return np.concatenate([shares, np.stack(rest, axis=1)], axis=1)


def _place(boxes: Array) -> Array:
    """Where and how large: soft bins of the middle and of the area, and the plain numbers."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    octaves = np.log2(sides.prod(axis=1).clip(2.0**-10, 1)) / 2 + 5  # 0 to 5
    bins = [
        _soft_bins(middle[:, 0] * 7, 8, wrap=False),
        _soft_bins(middle[:, 1] * 7, 8, wrap=False),
        _soft_bins(octaves, 6, wrap=False),
    ]
    return np.concatenate([*bins, middle, sides], axis=1)


def _scaled(block: Array, weight: float) -> Array:
    """A block with length `weight`; a block that is almost empty stays almost empty."""
    length = np.sqrt((block**2).sum(axis=1, keepdims=True) + 1e-4)
    scaled: Array = (weight * block / length).astype(np.float32)
    return scaled
