"""Which kernel is used, and what happens where one cannot be had."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import images, sentences, tiny_model
from visavis.errors import RecipeError, VisavisError
from visavis.kernels import build, choose, compiled, native
from visavis.kernels.build import BuildError, library_path, load_library
from visavis.kernels.choose import (
    VARIABLE,
    attended_pairs,
    attended_scores,
    is_fused,
    kernel_for,
    kernel_name,
    noting,
    report,
    using,
    usual_kernel,
)
from visavis.kernels.spec import AttendSpec, Attention, Items

can_build = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler is installed")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing known of before, nor kept for later tests."""
    monkeypatch.delenv(VARIABLE, raising=False)
    caches: list[Any] = [native._loaded, choose._say_once, compiled._works]
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def request(dtype: torch.dtype = torch.float32, **options: Any) -> Attention:
    side = Items(torch.ones(2, 3, 4, dtype=dtype), torch.ones(2, 3).bool())
    return Attention(left=side, right=side, left_looks=AttendSpec(**{"smooth": 9.0, **options}))


def eager() -> Tensor:
    return torch.full((1,), 7.0)


def is_eager(attention: Attention) -> bool:
    found = attended_scores(attention, eager), attended_pairs(attention, eager)
    named = kernel_name(attention) == "eager"
    assert all(torch.equal(each, eager()) == named for each in found)
    return named


@can_build
def test_what_the_native_kernel_takes_goes_to_it() -> None:
    assert kernel_name(request()) == usual_kernel() == "native"
    assert not is_eager(request())


def test_eager_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with using("eager"):
        assert is_eager(request())
        assert usual_kernel() == "eager"
    monkeypatch.setenv(VARIABLE, "eager")
    assert is_eager(request())


@can_build
def test_the_innermost_wish_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "eager")
    with using("native"):
        assert not is_eager(request())
        with using("eager"):
            assert is_eager(request())
        assert not is_eager(request())
    assert is_eager(request())


@can_build
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["scan-t2i", "bfan-equal"])
def test_compiled_scores_are_the_eager_ones_and_gradients_stay_eager(variant: str) -> None:
    model: Any = tiny_model(variant).eval()
    with torch.inference_mode():
        sides = model.encode_images(images()), model.encode_sentences(sentences())
        with using("eager"):
            expected = model.score(*sides).i2t
        with using("compiled"), noting() as ran:
            found = model.score(*sides).i2t
            some = [side.select(slice(0, 2)) for side in sides]
            fewer = model.score(*some).i2t
    assert ran == {"compiled"}
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(fewer, expected[:2, :2], atol=1e-6, rtol=0)
    with using("compiled"), noting() as ran:
        trained = model.score(model.encode_images(images()), model.encode_sentences(sentences()))
    assert ran == {"eager"}
    assert trained.i2t.requires_grad


def test_compiled_is_never_chosen_by_itself_and_is_no_kernel() -> None:
    assert kernel_name(request()) != "compiled"
    assert "only when it is named" in report()["compiled"]
    with using("compiled"):
        assert kernel_name(request()) == usual_kernel() == "compiled"
        assert not is_fused(AttendSpec(smooth=9.0))
        assert report()["compiled"] == "used, without gradients"


def test_where_nothing_compiles_scores_are_eager_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with using("compiled"), caplog.at_level(logging.WARNING):
        assert torch.equal(attended_scores(request(), eager), eager())
        assert torch.equal(attended_pairs(request(), eager), eager())
    assert [line.getMessage() for line in caplog.records] == [
        "nothing can be compiled, scores are eager: no compiler"
    ]


def test_an_unknown_name_is_an_error_that_names_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(
            RecipeError, match="no kernel 'fast'; known are auto, eager, compiled, triton"
        ),
        using("fast"),
    ):
        pass
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(RecipeError, match=VARIABLE):
        kernel_name(request())


NOT_TAKEN = {
    "float64": request(torch.float64),
    "l1norm": request(norm="clipped_l1norm"),
    "lambda_lse": request(lambda_lse=-1.0),
    "nothing to look at": replace(
        request(), right=Items(torch.zeros(2, 3, 4), torch.zeros(2, 3).bool())
    ),
}


@pytest.mark.parametrize("why", NOT_TAKEN)
def test_what_no_kernel_takes_is_computed_eagerly(
    why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert is_eager(NOT_TAKEN[why])
    assert not caplog.records
    with using("native"), caplog.at_level(logging.WARNING):
        assert is_eager(NOT_TAKEN[why])
        assert is_eager(NOT_TAKEN[why])
    (record,) = caplog.records
    assert "the native kernel is not used" in record.getMessage()
    assert why in record.getMessage()


def test_a_kernel_of_another_device_leaves_the_processor_alone() -> None:
    with using("triton"):
        assert is_eager(request())


def test_without_a_compiler_scores_are_eager_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "compiler", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert is_eager(request())
        assert is_eager(request())
    (record,) = caplog.records
    assert "no C++ compiler" in record.getMessage()
    assert report()["native"] == "no C++ compiler is installed"
    assert report()["eager"] == "used"


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport shutil, sys, time\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = program(tmp_path / "broken", "sys.exit('attend.cpp:1: error: no luck')")
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"broken failed: attend.cpp:1: error: no luck"):
        load_library()
    assert not list((tmp_path / "cache" / "kernels").iterdir())
    assert is_eager(request())


def test_a_file_that_is_no_library_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = program(tmp_path / "empty", "open(sys.argv[-1], 'w').close()")
    monkeypatch.setenv("CXX", str(empty))
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"attend-\w+\.so: cannot be loaded .*; remove it"):
        load_library()
    assert is_eager(request())


def test_a_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path / "file"))
    assert is_eager(request())


@can_build
@pytest.mark.skipif(os.name != "posix", reason="owners and modes are of posix systems")
def test_a_library_that_others_may_have_written_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = library_path()
    assert not native.missing()
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    library_path().parent.mkdir(mode=0o700)
    library_path().write_bytes(built.read_bytes())
    library_path().chmod(0o700)
    load_library()
    library_path().chmod(0o722)
    with pytest.raises(VisavisError, match=r"others can write to .*; set VISAVIS_CACHE"):
        load_library()


@can_build
def test_a_built_library_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not native.missing()
    monkeypatch.setattr(build, "compiler", lambda: None)
    load_library()


@can_build
def test_processes_that_build_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    assert not native.missing()
    slow = program(
        tmp_path / "slow",
        "time.sleep(0.3)\n"
        f"shutil.copy({str(library_path())!r}, sys.argv[-1])\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write('x')",
    )
    surroundings = {**os.environ, "CXX": str(slow), "VISAVIS_CACHE": str(tmp_path / "cache")}
    code = "from visavis.kernels import native; print('[' + native.missing() + ']')"
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=surroundings, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == [b"[]", b"[]"]
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 1


def test_the_name_of_the_library_tells_sources_and_processor_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {library_path().name}
    monkeypatch.setattr(build, "_processor", lambda: "another")
    names.add(library_path().name)
    monkeypatch.setattr(build, "_source_texts", lambda: ["another"])
    names.add(library_path().name)
    monkeypatch.setattr(torch, "__version__", "0")
    names.add(library_path().name)
    assert len(names) == 4


@can_build
def test_the_report_says_what_is_used_and_why_the_others_are_not() -> None:
    found = report()
    assert set(found) == {*choose.KERNELS, "eager", "compiled"}
    assert found["native"] == "used"
    assert "used" not in (found["eager"], found["triton"])
    with using("eager"):
        assert report()["native"] == "eager comes first"
        assert report()["eager"] == "used"


@can_build
@pytest.mark.parametrize("variant", ["scan-t2i", "scan-i2t", "bfan-equal", "bfan-prob", "bfan-i2t"])
def test_models_score_by_the_kernel_that_is_named(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = tiny_model(variant)
    left, right = model.encode_images(images()), model.encode_sentences(sentences())
    found = {}
    for name in ("native", "eager"):
        with using(name):
            found[name] = model.score(left, right).i2t
            pairs = model.score_pairs(left, right.select(slice(0, len(left)))).i2t
            torch.testing.assert_close(pairs, found[name].diagonal(), atol=1e-5, rtol=0)
    assert not torch.equal(found["native"], found["eager"])
    torch.testing.assert_close(found["native"], found["eager"], atol=1e-5, rtol=0)


@can_build
@pytest.mark.parametrize("variant", ["scan-t2i", "bfan-equal"])
def test_blocks_are_larger_where_no_affinities_are_kept(variant: str) -> None:
    model: Any = tiny_model(variant)
    fused = model.pair_bytes(36, 14)
    with using("eager"):
        assert model.pair_bytes(36, 14) > fused


def test_other_normalisations_are_eager() -> None:
    assert kernel_for(AttendSpec(smooth=9.0, norm="softmax")) == "eager"


def test_what_ran_is_noted() -> None:
    with noting() as outer, using("eager"):
        is_eager(request())
        with noting() as inner, using("native"):
            is_eager(request(torch.float64))
    is_eager(request())
    assert outer == inner == {"eager"}
