"""Precomp folders: which caption belongs to which image, boxes, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from visavis.data.open import link
from visavis.data.plain_pickle import read_object_array
from visavis.data.precomp import PrecompFeatures, read_precomp
from visavis.data.precomp_boxes import read_sizes
from visavis.errors import DataError

DIM = 5


def vectors(images: int, seed: int = 0, regions: int = 2) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((images, regions, DIM)).astype(np.float32)


def write(
    folder: Path,
    split: str,
    rows: NDArray[np.float32],
    captions: int | Sequence[str],
    ids: Sequence[str] | None = None,
) -> None:
    np.save(folder / f"{split}_ims.npy", rows)
    texts = [f"{split} {k}" for k in range(captions)] if isinstance(captions, int) else captions
    (folder / f"{split}_caps.txt").write_text("".join(f"{t}\n" for t in texts), encoding="utf-8")
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("".join(f"{name}\n" for name in ids))


def owners(folder: Path) -> list[str]:
    """The image id of each caption."""
    corpus = read_precomp(folder)
    return [corpus.image_ids[image] for image, _ in corpus.pairs]


@settings(max_examples=20, deadline=None)
@given(images=st.integers(1, 5), per_image=st.integers(1, 6), repeated=st.booleans())
def test_both_layouts_give_the_same_images_for_any_number_of_captions(
    tmp_path_factory: pytest.TempPathFactory, images: int, per_image: int, *, repeated: bool
) -> None:
    folder = tmp_path_factory.mktemp("precomp")
    distinct, names = vectors(images), [str(900 + k) for k in range(images)]
    times = per_image if repeated else 1
    write(
        folder, "train", distinct.repeat(times, axis=0), images * per_image,
        [name for name in names for _ in range(times)],
    )  # fmt: skip
    corpus, features = read_precomp(folder), PrecompFeatures(folder)
    assert corpus.image_ids == tuple(names)
    assert corpus.pairs[:, 0].tolist() == [k for k in range(images) for _ in range(per_image)]
    assert corpus.sentence_texts == tuple(f"train {k}" for k in range(images * per_image))
    assert features.ids == corpus.image_ids
    read = features.read(link(corpus, features)).regions.numpy()
    assert read.tolist() == distinct.tolist()  # one vector for each image, not for each caption


def test_ids_of_captions_allow_any_number_of_captions_for_each_image(tmp_path: Path) -> None:
    write(tmp_path, "test", vectors(3), 6, ["a", "b", "b", "b", "c", "c"])
    assert owners(tmp_path) == ["a", "b", "b", "b", "c", "c"]
    features = PrecompFeatures(tmp_path)
    assert features.read(np.array([1])).regions.numpy().tolist() == vectors(3)[[1]].tolist()


def test_repeated_rows_with_ids_allow_any_number_of_captions_too(tmp_path: Path) -> None:
    write(tmp_path, "test", vectors(2)[[0, 1, 1, 1]], 4, ["a", "b", "b", "b"])
    assert owners(tmp_path) == ["a", "b", "b", "b"]
    assert len(PrecompFeatures(tmp_path)) == 2


def test_without_ids_equal_neighbours_are_one_image(tmp_path: Path) -> None:
    write(tmp_path, "test", vectors(3).repeat(5, axis=0), 15)
    assert owners(tmp_path) == [f"test/{k}" for k in range(3) for _ in range(5)]


def test_without_ids_more_captions_than_rows_are_shared_out(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(3), 12)
    assert owners(tmp_path) == [f"train/{k}" for k in range(3) for _ in range(4)]


def test_without_ids_nothing_is_guessed_when_rows_repeat_unevenly(tmp_path: Path) -> None:
    write(tmp_path, "test", vectors(2)[[0, 0, 1]], 3)
    with pytest.raises(DataError, match=r"rows repeat 1 to 2 times, .* add test_ids.txt"):
        read_precomp(tmp_path)


def test_splits_come_in_the_usual_order(tmp_path: Path) -> None:
    for seed, name in enumerate(("testall", "extra", "dev", "train", "test")):
        write(tmp_path, name, vectors(1, seed), 1, [name])
    assert read_precomp(tmp_path).splits == ("train", "dev", "test", "testall", "extra")


def test_ids_of_test_are_prefixed_where_testall_has_them(tmp_path: Path) -> None:
    write(tmp_path, "test", vectors(2), 2, ["7", "8"])
    write(tmp_path, "testall", vectors(3), 3, ["7", "8", "9"])
    corpus = read_precomp(tmp_path)
    assert corpus.split("test").image_ids == ("test/7", "test/8")
    assert corpus.split("testall").image_ids == ("7", "8", "9")
    assert corpus.split("testall").sentence_ids == ("testall#0", "testall#1", "testall#2")


def test_accents_survive_and_only_line_feeds_end_a_caption(tmp_path: Path) -> None:
    write(tmp_path, "dev", vectors(1), ["a café\u2028table", "second"], ["1"])
    assert read_precomp(tmp_path).sentence_texts == ("a café\u2028table", "second")


@pytest.mark.parametrize("line", ["b'a man .'", 'b"a man \'s hat"'])
def test_printed_bytes_are_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, "dev", vectors(1), ["a man .", line], ["1"])
    with pytest.raises(DataError, match=r"dev_caps.txt, line 2: a caption is a printed bytes"):
        read_precomp(tmp_path)


def test_a_caption_may_begin_with_the_letter_b(tmp_path: Path) -> None:
    write(tmp_path, "dev", vectors(1), ["b is a letter", "b 'quoted'"], ["1"])
    assert len(read_precomp(tmp_path).sentence_texts) == 2


@pytest.mark.parametrize("captions", [1, 5])
def test_captions_that_do_not_fit_the_rows_are_refused(tmp_path: Path, captions: int) -> None:
    write(tmp_path, "dev", vectors(2), captions, ["1", "2"])
    with pytest.raises(DataError, match=rf"{captions} captions do not fit the 2 rows") as error:
        read_precomp(tmp_path)
    assert "\n" not in str(error.value)


def test_ids_that_fit_neither_rows_nor_captions_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "dev", vectors(2), 6, ["1", "1", "2"])
    with pytest.raises(DataError, match=r"3 ids \(2 different\) for 2 feature rows and 6 capt"):
        read_precomp(tmp_path)


@pytest.mark.parametrize("missing", ["caps.txt", "ims.npy"])
def test_half_a_split_is_refused(tmp_path: Path, missing: str) -> None:
    write(tmp_path, "dev", vectors(1), 1, ["1"])
    write(tmp_path, "test", vectors(1), 1, ["2"])
    (tmp_path / f"test_{missing}").unlink()
    with pytest.raises(DataError, match=rf"test_{missing}: no such file beside test_"):
        read_precomp(tmp_path)


def test_nan_is_refused_by_the_row_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(1), 1, ["0"])
    rows = vectors(2).repeat(5, axis=0)
    rows[5, 0, 0] = np.nan
    write(tmp_path, "dev", rows, 10, ["1"] * 5 + ["2"] * 5)
    features = PrecompFeatures(tmp_path)
    features.read(np.array([0, 1]))
    with pytest.raises(DataError, match=r"dev_ims.npy: row 5 holds NaN"):
        features.read(np.array([0, 2]))


def test_rows_of_several_splits_keep_the_order_asked(tmp_path: Path) -> None:
    train, dev = vectors(3, 1), vectors(2, 2)
    write(tmp_path, "train", train, 3, ["a", "b", "c"])
    write(tmp_path, "dev", dev, 2, ["d", "e"])
    read = PrecompFeatures(tmp_path).read(np.array([4, 0, 3, 2])).regions.numpy()
    assert read.tolist() == np.stack([dev[1], train[0], dev[0], train[2]]).tolist()


def test_fewer_regions_in_a_split_are_masked(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(1, regions=3), 1, ["a"])
    write(tmp_path, "dev", vectors(1, regions=2), 1, ["b"])
    batch = PrecompFeatures(tmp_path).read(np.array([1, 0]))
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert not batch.regions[0, 2].any()


def test_widths_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(1), 1, ["a"])
    write(tmp_path, "dev", vectors(1)[:, :, :3], 1, ["b"])
    with pytest.raises(
        DataError, match=r"dev_ims.npy: vectors of width 3, but train_ims.npy has 5"
    ):
        PrecompFeatures(tmp_path)


def test_a_worker_process_opens_the_folder_again(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(2), 2, ["a", "b"])
    again = pickle.loads(pickle.dumps(PrecompFeatures(tmp_path)))  # our own bytes
    assert again.ids == ("a", "b")


PIXELS = np.array([[[0, 0, 50, 20], [10, 5, 100, 40]]], dtype=np.float32)  # of a 100 x 40 picture
FRACTIONS = [[[0.0, 0.0, 0.5, 0.5], [0.1, 0.125, 1.0, 1.0]]]


def size_files() -> dict[str, object]:
    entry = {"image_w": 100, "image_h": 40}
    return {
        "numbers": np.array([[100, 40]]),
        "dictionaries": np.array([entry], dtype=object),
        "numpy scalars": np.array(
            [{"image_w": np.int64(100), "image_h": np.float32(40)}], dtype=object
        ),
        "arrays": np.array([np.array([100, 40]), None], dtype=object)[:1],
    }


@pytest.mark.parametrize("kind", size_files())
def test_boxes_in_pixels_become_fractions(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "dev", vectors(1).repeat(3, axis=0), 3, ["7"] * 3)
    np.save(tmp_path / "dev_ims_bbx.npy", PIXELS.repeat(3, axis=0))
    np.save(tmp_path / "dev_ims_size.npy", size_files()[kind])
    boxes = PrecompFeatures(tmp_path).read(np.array([0])).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes.numpy(), FRACTIONS, atol=1e-6)


def test_boxes_are_given_only_where_every_image_has_them(tmp_path: Path) -> None:
    write(tmp_path, "train", vectors(1), 1, ["a"])
    write(tmp_path, "dev", vectors(1), 1, ["b"])
    np.save(tmp_path / "dev_ims_bbx.npy", PIXELS / np.array([100, 40, 100, 40]))
    features = PrecompFeatures(tmp_path)
    assert features.read(np.array([1])).boxes is not None
    assert features.read(np.array([1, 0])).boxes is None


def test_pixels_without_sizes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "dev", vectors(1), 1, ["7"])
    np.save(tmp_path / "dev_ims_bbx.npy", PIXELS)
    with pytest.raises(DataError, match=r"need the sizes of the pictures; add dev_ims_size.npy"):
        read_precomp(tmp_path)


def test_width_and_height_in_the_wrong_order_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, "dev", vectors(1), 1, ["7"])
    np.save(tmp_path / "dev_ims_bbx.npy", PIXELS)
    np.save(tmp_path / "dev_ims_size.npy", np.array([[40, 100]]))
    with pytest.raises(DataError, match=r"boxes of row 0 are not between 0 and 1"):
        PrecompFeatures(tmp_path).read(np.array([0]))


@pytest.mark.parametrize("value", [{"image_w": 3}, {"image_w": "wide", "image_h": 1}, "3x4"])
def test_entries_that_are_no_size_are_refused(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "size.npy", np.array([value], dtype=object))
    with pytest.raises(DataError, match="is no size; expected image_w and image_h"):
        read_sizes(tmp_path / "size.npy")


def test_sizes_of_old_pickles_are_read(tmp_path: Path) -> None:
    array = np.array([{"image_w": np.float64(4), "image_h": 3}], dtype=object)
    with (tmp_path / "size.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|O", "fortran_order": False, "shape": (1,)}
        )
        pickle.dump(array, stream, protocol=2)
    assert read_sizes(tmp_path / "size.npy").tolist() == [[4, 3]]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_a_pickle_that_names_code_is_refused_and_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "size.npy", np.array([Hostile()], dtype=object))
    with pytest.raises(DataError, match=r"asks for builtins.eval, which is refused"):
        read_object_array(tmp_path / "size.npy")


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "size.npy", np.array([{"image_w": 1, "image_h": 1}], dtype=object))
    content = (tmp_path / "size.npy").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.npy").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut.npy"):
            read_object_array(tmp_path / "cut.npy")
