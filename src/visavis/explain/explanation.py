"""What an explanation of one pair is: words, boxes, and how much each word has to do with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.explain.words import is_content, is_special

Kind = Literal["attention", "ablation", "interaction"]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why one image and one sentence have the score they have.

    `attention`: each word's weights over the regions, as the model used them. `ablation`: the
    whole sentence is the only word, and a weight is what the score loses without the region, below
    0 where the score gains. `interaction`: what a word and a region bring to the score together,
    beyond what each brings without the other; below 0 where they are against each other, and 0 for
    end marks.
    """

    words: tuple[str, ...]  # W, readable, end marks of the tokenizer included
    boxes: Array  # (R, 4) x1 y1 x2 y2 as fractions of width and height
    weights: Array  # (W, R)
    score: float
    kind: Kind = "attention"

    def __post_init__(self) -> None:
        shape = (len(self.words), len(self.boxes))
        if self.weights.shape != shape or self.boxes.shape[1:] != (4,):
            raise ValueError(
                f"weights {self.weights.shape}, boxes {self.boxes.shape}, {len(self.words)} words"
            )


def content_words(explanation: Explanation) -> tuple[int, ...]:
    """Positions of the words that can stand for something in the picture.

    Without end marks, punctuation and English stop words; of a sentence that has nothing else,
    every word but the end marks.
    """
    if explanation.kind == "ablation":
        return (0,)
    words = explanation.words
    content = tuple(place for place, word in enumerate(words) if is_content(word))
    return content or tuple(place for place, word in enumerate(words) if not is_special(word))


def top_regions(explanation: Explanation, word: int, k: int) -> NDArray[np.int64]:
    """The regions of largest weight for the word at a position, best first: at most k."""
    return np.argsort(-explanation.weights[word], kind="stable")[:k]


def region_relevance(explanation: Explanation, how: Literal["max", "mean"] = "max") -> Array:
    """How much the sentence's content words look at each region: (R,).

    `max`: the word that looks at it most counts; `mean`: all of them together.
    """
    weights = explanation.weights[list(content_words(explanation))]  # (content words, R)
    relevance: Array = weights.max(axis=0) if how == "max" else weights.mean(axis=0)
    return relevance
