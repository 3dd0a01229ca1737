"""Evaluations: what they hold, what they refuse, and that they come back from disk unchanged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.evaluate import Evaluation, describe, evaluate
from visavis.evaluation.protocols import Protocol, make_protocol
from visavis.evaluation.saved import load, save
from visavis.metrics.ranks import ranks
from visavis.metrics.recall import chance_metrics, recall_metrics
from visavis.metrics.significance import Resampling
from visavis.types import Scores

QUICK = Resampling(resamples=50)


def corpus(counts: list[int], loose_sentences: int = 0) -> Corpus:
    """Images with given numbers of sentences, then sentences of no image."""
    owners = np.repeat(np.arange(len(counts)), counts)
    total = len(owners) + loose_sentences
    return Corpus(
        name="toy",
        image_ids=tuple(f"i{i}" for i in range(len(counts))),
        image_splits=("test",) * len(counts),
        sentence_ids=tuple(f"s{j}" for j in range(total)),
        sentence_texts=tuple(f"sentence {j}" for j in range(total)),
        pairs=np.stack([owners, np.arange(len(owners))], axis=1),
        rows=np.arange(len(counts)),
    )


def scored(part: Corpus) -> Scores:
    """Scores that depend on nothing but the names, so that folds can be scored on their own."""
    seeds = [int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) for name in part.sentence_ids]
    assert part.rows is not None
    rows = torch.from_numpy(part.rows).double()[:, None] + 1
    return Scores.shared(torch.sin(rows * torch.tensor(seeds, dtype=torch.float64)))


def two_folds(whole: Corpus) -> Protocol:
    return Protocol("halves", whole, (whole.select([0, 1, 2]), whole.select([3, 4, 5])), "a note")


@pytest.fixture
def evaluation() -> Evaluation:
    whole = corpus([5, 4, 6, 5, 5, 2])
    return evaluate(scored, two_folds(whole), name="toy", details={"seed": 3}, resampling=QUICK)


def test_one_fold_gives_the_metrics_of_its_ranks() -> None:
    whole = corpus([5] * 8)
    found = evaluate(scored, make_protocol("full", whole), name="toy", resampling=QUICK)
    assert found.metrics == recall_metrics(ranks(scored(whole), whole.pairs))
    assert found.chance == chance_metrics((8, 40), whole.pairs)


def test_folds_are_scored_apart_and_averaged(evaluation: Evaluation) -> None:
    assert [fold.images for fold in evaluation.folds] == [3, 3]
    assert [fold.sentences for fold in evaluation.folds] == [15, 12]
    parts = [fold.metrics["rsum"] for fold in evaluation.folds]
    assert parts[0] != parts[1]
    assert evaluation.metrics["rsum"] == pytest.approx(sum(parts) / 2)


def test_a_sentence_competes_only_within_its_fold() -> None:
    whole = corpus([1] * 6)

    def own_place(part: Corpus) -> Scores:  # the first fold's images all like its first sentence
        return Scores.shared(torch.arange(9.0).flip(0).reshape(3, 3))

    found = evaluate(own_place, two_folds(whole), name="toy", resampling=QUICK)
    assert [q.ranks.i2t.tolist() for q in found.queries] == [[0, 1, 2], [0, 1, 2]]


def test_an_evaluation_says_what_it_was_made_on(evaluation: Evaluation) -> None:
    subject = evaluation.subject
    assert (subject.corpus, subject.splits) == ("toy", ("test",))
    assert (subject.images, subject.sentences) == (6, 27)
    assert (subject.fewest_sentences, subject.mean_sentences, subject.most_sentences) == (2, 4.5, 6)
    assert (evaluation.protocol, evaluation.note, evaluation.ties) == (
        "halves",
        "a note",
        "ties lose",
    )
    assert evaluation.details == {"seed": 3}


def test_items_that_only_compete_are_counted() -> None:
    whole = corpus([5, 0, 5], loose_sentences=4)
    subject = describe(whole)
    assert (subject.images_without_sentence, subject.sentences_without_image) == (1, 4)
    assert subject.fewest_sentences == 5
    found = evaluate(scored, make_protocol("full", whole), name="toy", resampling=QUICK)
    assert found.queries[0].ranks.i2t[1] == -1
    assert (found.queries[0].ranks.t2i[10:] == -1).all()


def test_progress_is_told_fold_by_fold() -> None:
    told: list[tuple[int, int]] = []
    evaluate(
        scored,
        two_folds(corpus([5] * 6)),
        name="toy",
        resampling=QUICK,
        on_fold=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]


def test_transposed_scores_are_refused() -> None:
    def transposed(part: Corpus) -> Scores:
        return Scores.shared(scored(part).i2t.T)

    with pytest.raises(DataError, match="rows must be images"):
        evaluate(transposed, make_protocol("full", corpus([5] * 3)), name="toy")


def test_scores_with_nan_are_refused() -> None:
    def broken(part: Corpus) -> Scores:
        return Scores.shared(torch.full((len(part.image_ids), len(part.sentence_ids)), torch.nan))

    with pytest.raises(DataError, match="NaN"):
        evaluate(broken, make_protocol("full", corpus([5] * 3)), name="toy")


def test_a_corpus_without_pairs_is_refused() -> None:
    with pytest.raises(DataError, match="without a single pair"):
        evaluate(scored, make_protocol("full", corpus([0, 0], 3)), name="toy")


def test_an_evaluation_comes_back_from_disk_unchanged(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    save(evaluation, path)
    found = load(path)
    for name in ("name", "protocol", "note", "ties", "subject", "metrics", "intervals", "chance",
                 "folds", "resampling", "details"):  # fmt: skip
        assert getattr(found, name) == getattr(evaluation, name), name
    for one, other in zip(found.queries, evaluation.queries, strict=True):
        assert one.ranks.i2t.tolist() == other.ranks.i2t.tolist()
        assert one.ranks.t2i.tolist() == other.ranks.t2i.tolist()
        assert one.pairs.tolist() == other.pairs.tolist()


def test_saving_twice_gives_the_same_bytes(evaluation: Evaluation, tmp_path: Path) -> None:
    save(evaluation, tmp_path / "a" / "results.json")
    save(evaluation, tmp_path / "b" / "results.json")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["results.json", "results.ranks.npz"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_figures_can_be_read_without_the_ranks(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(evaluation, path)
    (tmp_path / "results.ranks.npz").unlink()
    found = load(path)
    assert found.metrics == evaluation.metrics
    with pytest.raises(DataError, match="no ranks of single queries"):
        found.units()


def test_ranks_of_another_evaluation_are_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    other = evaluate(scored, make_protocol("full", corpus([5] * 4)), name="b", resampling=QUICK)
    save(evaluation, tmp_path / "one.json")
    save(other, tmp_path / "other.json")
    (tmp_path / "other.ranks.npz").replace(tmp_path / "one.ranks.npz")
    with pytest.raises(DataError, match=r"not the ranks that one\.json speaks of"):
        load(tmp_path / "one.json")


def test_pickled_ranks_are_never_loaded(evaluation: Evaluation, tmp_path: Path) -> None:
    path, ranks_path = tmp_path / "results.json", tmp_path / "results.ranks.npz"
    save(evaluation, path)
    with ranks_path.open("wb") as stream:
        np.savez(stream, fold0_i2t=np.array([{"a": 1}], dtype=object))
    values = json.loads(path.read_text())
    values["ranks"]["sha256"] = hashlib.sha256(ranks_path.read_bytes()).hexdigest()
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"metrics": {"rsum": 1.0}}, "missing i2t_r1"),
        ({"metrics": {"rsum": "much"}}, "not a saved evaluation"),
        ({"surprise": 1}, "unknown key"),
        ({"folds": []}, "missing folds"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(
    evaluation: Evaluation, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "results.json"
    save(evaluation, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", ""])
def test_any_other_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a"):
        load(path)


def test_details_that_are_no_json_replace_nothing(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save(evaluation, path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    bad = evaluate(
        scored,
        make_protocol("full", corpus([5] * 4)),
        name="bad",
        details={"path": tmp_path},
        resampling=QUICK,
    )
    with pytest.raises(TypeError):
        save(bad, path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
