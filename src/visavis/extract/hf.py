"""Regions from any detector and any vision backbone of the transformers library.

A detector's boxes (or a grid alone) and a feature map: of a backbone of its own (ResNet, ConvNeXt,
ViT, the vision half of CLIP), or of the detector's encoder. Pictures are stretched to a square and
normalised here, by what the model folder says, so that no image processor and no torchvision is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from visavis.config import plain
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError
from visavis.extract.base import Regions
from visavis.extract.hf_models import HfModel
from visavis.extract.pooling import (
    Array,
    KeepConfig,
    PoolConfig,
    keep_best,
    max_regions,
    no_boxes,
    pool_regions,
)
from visavis.extract.weights import Machine, digest_of, portable

_VERSION = "1"  # raise it when boxes or vectors change: stored ones no longer compare
_GROUP = 8  # pictures in one call of a model
_MOST_EXTRA = 16  # tokens beside the patches: a class token, registers


@dataclass(frozen=True, kw_only=True)
class HfDetectorConfig:
    """A detection model: DETR, RT-DETR, D-FINE, Deformable DETR, YOLOS and their kin."""

    model: str = "PekingU/rtdetr_r50vd"  # a hub name, or a folder in the weights folder
    revision: str = "main"
    size: int = 640  # side of the square input
    keep: KeepConfig = field(default_factory=KeepConfig)

    def __post_init__(self) -> None:
        portable(self.model)


@dataclass(frozen=True, kw_only=True)
class HfBackboneConfig:
    """A vision model whose last hidden state is a map or a grid of patches."""

    model: str = "microsoft/resnet-50"  # a hub name, or a folder in the weights folder
    revision: str = "main"
    size: int = 384  # side of the square input

    def __post_init__(self) -> None:
        portable(self.model)


@dataclass(frozen=True, kw_only=True)
class HfConfig:
    """Options of the `hf` extractor. Without a backbone the map is that of the detector."""

    detector: HfDetectorConfig | None = None
    backbone: HfBackboneConfig | None = field(default_factory=HfBackboneConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)

    def __post_init__(self) -> None:
        if self.detector is None and self.backbone is None:
            raise ValueError("neither a detector nor a backbone; set one of them")


class HfExtractor:
    """A detector's boxes and a grid's cells, with vectors from a map."""

    config_type: ClassVar[type] = HfConfig

    def __init__(self, config: HfConfig, machine: Machine | None = None) -> None:
        machine = machine or Machine()
        self.config = config
        detector, backbone = config.detector, config.backbone
        self._detector = (
            HfModel("AutoModelForObjectDetection", detector.model, detector.revision, machine)
            if detector
            else None
        )
        self._backbone = (
            HfModel("AutoModel", backbone.model, backbone.revision, machine) if backbone else None
        )
        models = [model for model in (self._detector, self._backbone) if model]
        options = plain(config)
        self.identity = FeatureIdentity(
            extractor="hf",
            options=options,
            digest=digest_of(options, [_VERSION, *(model.digest() for model in models)]),
        )
        side = (backbone or detector).size  # type: ignore[union-attr]  # HfConfig holds one
        blank = [Image.new("RGB", (side, side))]
        self._dim = int(self._look(blank)[1][0].shape[0])

    @property
    def dim(self) -> int:
        """Width D of a region vector."""
        return self._dim

    @property
    def max_regions(self) -> int:
        """The most regions R that one picture gives."""
        detector = self.config.detector
        return max_regions(detector.keep if detector else None, self.config.pool)

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        """Regions of each picture. Pictures are RGB, already turned upright."""
        regions: list[Regions] = []
        for start in range(0, len(pictures), _GROUP):
            group = pictures[start : start + _GROUP]
            found, maps = self._look(group)
            regions += pool_regions(group, found, maps, self.config.pool)
        return regions

    def _look(self, pictures: Sequence[Image.Image]) -> tuple[list[Array], list[Array]]:
        """Boxes and maps of a few pictures; the detector runs once for both."""
        found, maps = no_boxes(pictures), None
        if self._detector and self.config.detector:
            output = self._detector.run(pictures, self.config.detector.size)
            found = _found(output, self._detector.labels, self.config.detector.keep)
            maps = getattr(output, "encoder_last_hidden_state", None)
        if self._backbone and self.config.backbone:
            output = self._backbone.run(pictures, self.config.backbone.size)
            maps = output.last_hidden_state
        if maps is None:
            raise DataError("this detector shows no map of its encoder; name a backbone")
        return found, list(as_map(maps).float().cpu().numpy())


def as_map(hidden: Tensor | Sequence[Tensor]) -> Tensor:
    """A last hidden state as maps (n, C, h, w).

    Of maps of several scales the last one, the coarsest, is taken. Tokens (n, L, C) are the
    patches of a square, row by row, behind a class token and registers if there are some.

    Raises:
        DataError: the tokens are not those of one square.
    """
    if not isinstance(hidden, Tensor):
        hidden = hidden[-1]
    if hidden.ndim == 4:
        return hidden
    length = hidden.shape[1]
    side = math.isqrt(length)
    extra = length - side * side
    if hidden.ndim != 3 or extra > _MOST_EXTRA:
        raise DataError(
            f"a last hidden state of shape {tuple(hidden.shape)} is not one square map; "
            "name another backbone"
        )
    patches = hidden[:, extra:].transpose(1, 2)  # (n, C, L)
    return patches.reshape(len(hidden), -1, side, side)


def _found(output: Any, labels: int, keep: KeepConfig) -> list[Array]:  # noqa: ANN401
    """The kept boxes of each picture."""
    logits: Tensor = output.logits.float().cpu()  # (n, queries, classes)
    if logits.shape[-1] == labels + 1:  # DETR, YOLOS: the last class is "nothing"
        scores = logits.softmax(dim=-1)[..., :-1].amax(dim=-1)
    else:
        scores = logits.sigmoid().amax(dim=-1)
    middle, sides = output.pred_boxes.float().cpu().split(2, dim=-1)
    boxes = torch.cat([middle - sides / 2, middle + sides / 2], dim=-1)  # (n, queries, 4)
    return [
        keep_best(box.numpy(), score.numpy(), keep)
        for box, score in zip(boxes, scores, strict=True)
    ]
