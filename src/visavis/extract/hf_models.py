"""One model of the transformers library, loaded safely: no code from a folder, no pickles."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from visavis.errors import DataError, MissingExtraError
from visavis.extract.pooling import IMAGENET, normalised, pixel_batch
from visavis.extract.weights import VARIABLE, Machine, weights_folder


class HfModel:
    """Pictures to the output of a model."""

    def __init__(self, kind: str, name: str, revision: str, machine: Machine) -> None:
        """Load a model by the name of an Auto class.

        Raises:
            DataError: the model is not there, has weights of another kind, or lacks some.
            MissingExtraError: transformers is not installed.
        """
        folder = weights_folder(machine)
        local = folder is not None and (folder / name).is_dir()
        source = str(folder / name) if folder is not None and local else name
        model = _load(kind, source, revision, name)
        self._name = name
        self._device = machine.device
        self.labels = int(getattr(model.config, "num_labels", 0))
        # Of models of pictures and text only the half that looks.
        self._model = getattr(model, "vision_model", model).eval().to(self._device)
        self._mean, self._spread = _normalisation(source, revision)
        parameters = inspect.signature(self._model.forward).parameters
        self._options = (
            {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        )

    def digest(self) -> str:
        """A hash of every weight and of the normalisation."""
        digest = hashlib.sha256(f"{self._mean}{self._spread}".encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def run(self, pictures: Sequence[Image.Image], size: int) -> Any:  # noqa: ANN401
        """The model's output for some pictures, stretched to a square.

        Raises:
            DataError: the model cannot run on pictures of this size.
        """
        batch = normalised(pixel_batch(pictures, size, "0-255"), self._mean, self._spread)
        try:
            with torch.inference_mode():
                return self._model(
                    pixel_values=torch.from_numpy(batch).to(self._device), **self._options
                )
        except (ValueError, RuntimeError, TypeError) as error:
            raise DataError(
                f"{self._name}: cannot run on {tuple(batch.shape)} ({_line(error)}); "
                "set `size` to the model's"
            ) from error


def _load(kind: str, source: str, revision: str, name: str) -> Any:  # noqa: ANN401
    """A model in float32 with every weight it needs."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise DataError(
            f"{name}: no such model ({_line(error)}); put its folder into the weights folder "
            f"(`--weights DIR` or {VARIABLE}) or let it be downloaded"
        ) from error
    # A pooler is not used here and often missing; anything else would be random numbers.
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} weights are missing, for example {missing[0]}; "
            "is it a model of another kind?"
        )
    return model


def _normalisation(source: str, revision: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of the channels that the model was trained with; ImageNet's if untold."""
    from transformers.image_processing_utils import (
        BaseImageProcessor,
    )

    settings: Mapping[str, Any]
    try:
        settings, _ = BaseImageProcessor.get_image_processor_dict(source, revision=revision)
    except OSError:
        settings = {}
    if settings.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, spread = IMAGENET
    return tuple(settings.get("image_mean") or mean), tuple(settings.get("image_std") or spread)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
