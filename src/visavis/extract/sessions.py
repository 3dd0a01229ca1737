"""An ONNX model in onnxruntime, with errors that say what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.errors import DataError, MissingExtraError, RecipeError
from visavis.extract.weights import Machine, find_weights
from visavis.files import sha256_of


class OnnxSession:
    """One model with one picture input (n, 3, size, size)."""

    def __init__(self, file: str, size: int, machine: Machine) -> None:
        path = find_weights(file, machine)
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = machine.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._failures: tuple[type[Exception], ...] = (*_failures(), ValueError)
        self._file = file
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=_providers(runtime, machine.device)
            )
        except self._failures as error:
            raise DataError(f"{path}: not a usable ONNX model ({_line(error)})") from error
        self._input, *more = self._session.get_inputs()
        self._check(size)
        # Some detectors also ask for the size that boxes shall refer to: the input's own.
        self._sizes = {entry.name: np.array([[size, size]], dtype=np.int64) for entry in more}
        self.digest = sha256_of(path)

    @property
    def batch(self) -> int | None:
        """1 when the model takes one picture at a time, None when it takes any number."""
        return 1 if isinstance(self._input.shape[0], int) else None

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name.

        Raises:
            DataError: the model cannot run on this input.
        """
        try:
            values = self._session.run(None, {self._input.name: batch, **self._sizes})
        except self._failures as error:
            raise DataError(
                f"{self._file}: cannot run on {batch.shape} ({_line(error)})"
            ) from error
        names = [entry.name for entry in self._session.get_outputs()]
        return dict(zip(names, values, strict=True))

    def _check(self, size: int) -> None:
        shape = self._input.shape
        wanted = (1, 3, size, size)
        fits = len(shape) == 4 and all(
            not isinstance(got, int) or got == want for got, want in zip(shape, wanted, strict=True)
        )
        if not fits or self._input.type != "tensor(float)":
            raise DataError(
                f"{self._file}: takes {self._input.type} {shape}, expected float pictures "
                f"(n or 1, 3, {size}, {size}); set `size` to the model's, or export it anew"
            )


def _onnxruntime() -> Any:  # noqa: ANN401  (the package ships no types)
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    return onnxruntime


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: a family without a common base of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type)]
    return tuple(kind for kind in found if issubclass(kind, Exception))


def _providers(runtime: Any, device: str) -> list[str]:  # noqa: ANN401
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise RecipeError(
            f"device {device!r}: this onnxruntime knows no GPU; "
            "install onnxruntime-gpu or take device cpu"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
