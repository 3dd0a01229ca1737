"""The full size of the field, 5,000 images by 25,000 sentences, in bounded memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from visavis.data.corpus import Corpus
from visavis.evaluation.evaluate import evaluate
from visavis.evaluation.protocols import make_protocol
from visavis.types import Scores

STATUS = Path("/proc/self/status")
IMAGES, EACH = 5000, 5
MEBIBYTE = 1 << 20


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind: the mapped matrix does not count."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


class Watch:
    """The most anonymous memory seen, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.peak = self.start = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, anonymous_bytes())
            time.sleep(0.002)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def stored_scores(path: Path) -> np.memmap:
    """Noise, row by row, with the right cells lifted."""
    matrix = np.memmap(path, np.float32, "w+", shape=(IMAGES, IMAGES * EACH))
    generator = np.random.default_rng(0)
    for row in range(IMAGES):
        matrix[row] = generator.standard_normal(IMAGES * EACH, dtype=np.float32)
        matrix[row, EACH * row : EACH * (row + 1)] += 3.5
    matrix.flush()
    return matrix


def full_size_corpus() -> Corpus:
    sentences = np.arange(IMAGES * EACH)
    return Corpus(
        name="large",
        image_ids=tuple(map(str, range(IMAGES))),
        image_splits=("test",) * IMAGES,
        sentence_ids=tuple(map(str, sentences)),
        sentence_texts=tuple(map(str, sentences)),
        pairs=np.stack([sentences // EACH, sentences], axis=1),
    )


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc/self/status to see memory")
def test_five_thousand_images_need_little_beside_the_matrix(tmp_path: Path) -> None:
    matrix = stored_scores(tmp_path / "scores.bin")
    protocol = make_protocol("5k", full_size_corpus())
    scores = Scores.shared(torch.from_numpy(matrix))
    with Watch() as watch:
        found = evaluate(lambda _: scores, protocol, name="noise")
    assert watch.peak - watch.start < 200 * MEBIBYTE
    ranks = found.queries[0].ranks
    for image in range(0, IMAGES, 700):
        wrong = np.delete(matrix[image], np.s_[EACH * image : EACH * (image + 1)])
        best = matrix[image, EACH * image : EACH * (image + 1)].max()
        assert ranks.i2t[image] == (wrong >= best).sum()
    for sentence in range(0, IMAGES * EACH, 3700):
        wrong = np.delete(matrix[:, sentence], sentence // EACH)
        assert ranks.t2i[sentence] == (wrong >= matrix[sentence // EACH, sentence]).sum()
