"""Image-sentence matching: train, compare, index, search and explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.models.pretrained import Pretrained

__version__ = "0.1.0"
__all__ = ["Pretrained", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever stands under a public name)
    """Public names, imported when they are asked for: torch takes seconds."""
    if name == "Pretrained":
        from visavis.models.pretrained import Pretrained

        return Pretrained
    raise AttributeError(f"module 'visavis' has no attribute {name!r}")
