"""Regions from any ONNX detector and any ONNX backbone, through onnxruntime.

A detector gives the boxes (or there is none, and the grid alone is used), a backbone one feature
map per picture; a region's vector is the mean of the map inside its box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from visavis.config import plain
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError
from visavis.extract.base import Regions
from visavis.extract.pooling import (
    Array,
    KeepConfig,
    PixelRange,
    PoolConfig,
    keep_best,
    max_regions,
    no_boxes,
    pixel_batch,
    pool_regions,
)
from visavis.extract.sessions import OnnxSession
from visavis.extract.weights import Machine, digest_of, portable

_VERSION = "1"  # raise it when boxes or vectors change: stored ones no longer compare
_GROUP = 8  # pictures in one call of a backbone whose batch axis is free


@dataclass(frozen=True, kw_only=True)
class OnnxDetectorConfig:
    """An ONNX detector: what it is fed and how its output is read."""

    file: str = "yolox_nano.onnx"
    kind: Literal["yolox", "boxes"] = "yolox"
    size: int = 416  # side of the square input
    pixels: PixelRange = "0-255"
    channels: Literal["rgb", "bgr"] = "bgr"
    strides: tuple[int, ...] = (8, 16, 32)  # yolox: the levels of the head
    box_format: Literal["corners", "centre"] = "corners"  # boxes: x1 y1 x2 y2, or x y width height
    box_unit: Literal["pixels", "fractions"] = "pixels"  # boxes: of the square input, or 0 to 1
    keep: KeepConfig = field(default_factory=KeepConfig)

    def __post_init__(self) -> None:
        portable(self.file)


@dataclass(frozen=True, kw_only=True)
class OnnxBackboneConfig:
    """An ONNX backbone with one output (n, C, h, w)."""

    file: str = "mobilenetv2_features.onnx"
    size: int = 384  # side of the square input
    pixels: PixelRange = "0-1"
    channels: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        portable(self.file)


@dataclass(frozen=True, kw_only=True)
class OnnxConfig:
    """Options of the `onnx` extractor."""

    detector: OnnxDetectorConfig | None = field(default_factory=OnnxDetectorConfig)
    backbone: OnnxBackboneConfig = field(default_factory=OnnxBackboneConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)


class OnnxExtractor:
    """A detector's boxes and a grid's cells, with vectors from a backbone's map."""

    config_type: ClassVar[type] = OnnxConfig

    def __init__(self, config: OnnxConfig, machine: Machine | None = None) -> None:
        machine = machine or Machine()
        self.config = config
        self._detector = OnnxDetector(config.detector, machine) if config.detector else None
        self._backbone = OnnxBackbone(config.backbone, machine)
        models = [part.session for part in (self._detector, self._backbone) if part]
        options = plain(config)
        self.identity = FeatureIdentity(
            extractor="onnx",
            options=options,
            digest=digest_of(options, [_VERSION, *(model.digest for model in models)]),
        )

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return self._backbone.dim

    @property
    def max_regions(self) -> int:
        """The most regions R that one picture gives."""
        detector = self.config.detector
        return max_regions(detector.keep if detector else None, self.config.pool)

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        """Regions of each picture. Pictures are RGB, already turned upright."""
        found = self._detector.detect(pictures) if self._detector else no_boxes(pictures)
        return pool_regions(pictures, found, self._backbone.maps(pictures), self.config.pool)


class OnnxDetector:
    """Pictures to boxes through an ONNX detector."""

    def __init__(self, config: OnnxDetectorConfig, machine: Machine) -> None:
        self.config = config
        self.session = OnnxSession(config.file, config.size, machine)

    def detect(self, pictures: Sequence[Image.Image]) -> list[Array]:
        """Boxes of each picture, best first: (B, 4), fractions."""
        # One by one: most detectors are exported so, and a batch is no faster on a processor.
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Image.Image) -> Array:
        config = self.config
        bgr = config.channels == "bgr"
        outputs = self.session.run(pixel_batch([picture], config.size, config.pixels, bgr=bgr))
        if config.kind == "yolox":
            boxes, scores = decode_yolox(next(iter(outputs.values())), config.size, config.strides)
        else:
            boxes, scores = read_boxes(outputs, config)
        return keep_best(boxes, scores, config.keep)


class OnnxBackbone:
    """Pictures to feature maps through an ONNX model."""

    def __init__(self, config: OnnxBackboneConfig, machine: Machine) -> None:
        self.config = config
        self.session = OnnxSession(config.file, config.size, machine)
        self._group = self.session.batch or _GROUP
        blank = Image.new("RGB", (config.size, config.size))
        self.dim: int = self.maps([blank])[0].shape[0]

    def maps(self, pictures: Sequence[Image.Image]) -> list[Array]:
        """One map (C, h, w) for each picture."""
        config = self.config
        found: list[Array] = []
        for start in range(0, len(pictures), self._group):
            group = pictures[start : start + self._group]
            batch = pixel_batch(group, config.size, config.pixels, bgr=config.channels == "bgr")
            output = next(iter(self.session.run(batch).values()))
            if output.ndim != 4 or len(output) != len(group):
                raise DataError(
                    f"{config.file}: gives an output of shape {output.shape}, expected a feature "
                    f"map ({len(group)}, C, h, w); export the model without its head"
                )
            found.extend(output)
        return found


def decode_yolox(output: Array, size: int, strides: Sequence[int]) -> tuple[Array, Array]:
    """Boxes and scores from the raw head of YOLOX (Ge et al., 2021).

    Each cell of each level holds the box's middle relative to the cell and the logarithm of its
    sides, in cells, then the objectness and the class probabilities.

    Args:
        output: (1, K, 5 + classes), K cells of all levels, row by row, finest level first.
        size: Side of the square input in pixels.
        strides: Pixels per cell of each level.

    Returns:
        Boxes (K, 4) as fractions, and scores (K,): objectness times the best class.

    Raises:
        DataError: the number of cells is not that of the levels.
    """
    sides = [size // stride for stride in strides]
    expected = sum(side * side for side in sides)
    if output.ndim != 3 or output.shape[1] != expected or output.shape[2] < 6:
        raise DataError(
            f"the detector gives {output.shape}, a YOLOX head with strides {list(strides)} on "
            f"{size} pixels gives (1, {expected}, 5 + classes); check kind, size and strides"
        )
    rows = output[0]
    corner = np.concatenate([np.stack(np.divmod(np.arange(n * n), n)[::-1], 1) for n in sides])
    cell = np.repeat([stride / size for stride in strides], [n * n for n in sides])[:, None]
    middle = (rows[:, :2] + corner) * cell
    half = np.exp(rows[:, 2:4].clip(max=10)) * cell / 2  # e^10 cells is wider than any picture
    scores = rows[:, 4] * rows[:, 5:].max(axis=1)
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    return boxes.astype(np.float32), scores.astype(np.float32)


def read_boxes(outputs: Mapping[str, Array], config: OnnxDetectorConfig) -> tuple[Array, Array]:
    """Boxes (K, 4) as fractions and scores (K,) of a model that outputs them directly.

    Raises:
        DataError: no output looks like boxes, or none like scores.
    """
    boxes = _output(outputs, "box", lambda shape: len(shape) == 2 and shape[1] == 4)
    scores = _output(
        outputs, "score", lambda shape: len(shape) in (1, 2) and shape[0] == len(boxes)
    )
    if scores.ndim == 2:  # one score for each class
        scores = scores.max(axis=1)
    if config.box_unit == "pixels":
        boxes = boxes / np.float32(config.size)
    if config.box_format == "centre":
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.concatenate([middle - half, middle + half], axis=1)
    return boxes.astype(np.float32), scores.astype(np.float32)


def _output(
    outputs: Mapping[str, Array], word: str, fits: Callable[[tuple[int, ...]], bool]
) -> Array:
    """The output whose name holds a word, without its batch axis of 1."""
    for name, value in outputs.items():
        single = value[0] if value.ndim > 1 and len(value) == 1 else value
        if word in name.lower() and fits(single.shape):
            return single
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    raise DataError(
        f"the detector has no output named like {word!r} of a fitting shape (got {shapes}); "
        "export it with one"
    )
