"""Files of torch.save: plain values and tensors come out, and nothing in them is ever run."""

from __future__ import annotations

import argparse
import builtins
import contextlib
import io
import os
import pickle
import shutil
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity.fixtures import DATA
from tests.published import CHECKPOINTS, config, gru_parts, refusal, scan_values, written
from visavis.convert import pickled
from visavis.convert.convert import convert
from visavis.convert.published import read_published
from visavis.convert.stored import Refused
from visavis.convert.torch_file import read_torch_file
from visavis.errors import VisavisError

layouts = pytest.mark.parametrize("zipped", [False, True], ids=["streamed", "zipped"])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return written(tmp_path / "model_best.pth.tar", scan_values())


@layouts
def test_plain_values_and_tensors_are_read(tmp_path: Path, *, zipped: bool) -> None:
    double = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    values = {
        "turned": double.T, "half": torch.tensor([1.5, -2.0]).half(), "count": torch.tensor(3),
        "part": torch.arange(5.0)[2:4], "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, -(2**40), 2.5, True, None, "ä", (1, (2, 3)), b"\x00\xff", {"a": {}}],
    }  # fmt: skip
    file = read_torch_file(written(tmp_path / "x", values, zipped=zipped))
    assert isinstance(file.value, dict)
    assert file.value.pop("plain") == values["plain"]
    wanted = {
        "turned": double.T,
        "half": [1.5, -2],
        "count": 3,
        "part": [2, 3],
        "parameter": [1, 1],
    }
    for name, expected in wanted.items():
        found = file.tensor(file.value[name])
        assert found.tolist() == torch.as_tensor(expected).tolist(), name
        assert found.dtype == (torch.int64 if name == "count" else torch.float32)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_is_read(protocol: int) -> None:
    values = {"a": [1, 2.5, "x" * 300, b"y" * 300], "b": OrderedDict(c=(1, 2, 3, 4)), "d": 2**70}
    assert pickled.read_pickle(io.BytesIO(pickle.dumps(values, protocol))) == values


def test_namespaces_become_dictionaries(tmp_path: Path) -> None:
    inner = argparse.Namespace(b=2)
    path = written(tmp_path / "x", {"opt": argparse.Namespace(a=1, inner=inner)})
    assert read_torch_file(path).value == {"opt": {"a": 1, "inner": {"b": 2}}}


def test_nested_easydicts_become_dictionaries() -> None:
    options = read_published(CHECKPOINTS / "camp_gate_fusion_new.pth.tar").options
    assert options["measure"] == "gate_fusion_new"
    assert options["optimizer"] == {
        "type": "SGD", "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True,
    }  # fmt: skip


@pytest.mark.parametrize("number", [np.float64(1.25), np.float32(-2), np.int64(-7), np.bool_(1)])
def test_numbers_of_numpy_become_numbers(tmp_path: Path, number: Any) -> None:
    file = read_torch_file(written(tmp_path / "x", [number]))
    assert file.value == [number.item()]
    assert type(file.value[0]) is type(number.item())


def test_the_notes_of_a_state_are_left_out(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 2).state_dict()  # carries _metadata
    value = read_torch_file(written(tmp_path / "x", state)).value
    assert isinstance(value, dict)
    assert list(value) == ["weight", "bias"]


class _Calls:
    """Pickled as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attacks(target: Path) -> dict[str, object]:
    command = f"touch {target}"
    return {
        "posix.system": _Calls(os.system, command),
        "subprocess.Popen": _Calls(subprocess.Popen, ["touch", str(target)]),
        "eval": _Calls(eval, f"open({str(target)!r}, 'w')"),
        "exec": _Calls(exec, f"open({str(target)!r}, 'w')"),
        "getattr": _Calls(getattr, [], "append"),
        "shutil.rmtree": _Calls(shutil.rmtree, str(target)),
        "torch.serialization.load": _Calls(torch.load, str(target)),
        "io.open": _Calls(builtins.open, str(target), "w"),
    }


@layouts
@pytest.mark.parametrize("name", attacks(Path("x")))
def test_a_file_that_would_run_something_is_refused(
    tmp_path: Path, name: str, *, zipped: bool
) -> None:
    values = scan_values(nested=[{"deep": (attacks(tmp_path / "ran")[name],)}])
    path = written(tmp_path / "x", values, zipped=zipped)
    message = refusal(lambda: convert(path, config()))
    assert "asks for" in message
    assert name.rpartition(".")[2] in message
    assert not (tmp_path / "ran").exists()


def test_a_weight_that_would_run_something_is_refused(tmp_path: Path) -> None:
    values = scan_values()
    values["model"][0]["fc.bias"] = attacks(tmp_path / "ran")["posix.system"]
    message = refusal(lambda: convert(written(tmp_path / "x", values), config()))
    assert "asks for posix.system" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "asks for posix.system"),
        (b"\x80\x02(S'id'\niposix\nsystem\n.", "uses STRING"),
        (b"\x80\x02(X\x02\x00\x00\x00idiposix\nsystem\n.", "uses INST"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"\x80\x02cargparse\nNamespace\n)R.", "calls argparse.Namespace"),
        (b"\x80\x02c_codecs\nencode\n)\x81.", "makes _codecs.encode"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "sets attributes of what has none"),
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "calls what is no name"),
        (b"\x80\x02]cposix\x00\nsystem\n.", "asks for posix"),
        (b"\x80\x02}()))t\x85Ns.", "named by neither text nor number"),
        (b"\x80\x02]N(0.", "uses POP"),
        (b"\x80\x02NQ.", "refers to something that is no tensor"),
        (b"\x80\x02(N\x85\x85.", None),
        (b"\x80\x02(\x85.", "behind a mark"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "numpy is none"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\nNN\x86R.", "damaged"),
    ],
)
def test_odd_instructions_are_refused(content: bytes, said: str | None) -> None:
    if said is None:
        assert pickled.read_pickle(io.BytesIO(content)) == ((None,),)
        return
    with pytest.raises(Refused, match=said.replace("(", r"\(")):
        pickled.read_pickle(io.BytesIO(content))


def test_a_memo_number_that_would_fill_the_memory_does_not() -> None:
    assert pickled.read_pickle(io.BytesIO(b"\x80\x02]r\xff\xff\xff\x7f.")) == []


def test_lists_that_double_at_every_step_cost_nothing() -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value, value]
    content = pickle.dumps({"opt": value, "model": []}, 2)
    assert isinstance(pickled.read_pickle(io.BytesIO(content)), dict)


def test_a_file_that_holds_itself_is_read(tmp_path: Path) -> None:
    values = scan_values()
    values["opt"].itself = values
    assert convert(written(tmp_path / "x", values), config()).name == "scan"


def test_too_many_instructions_are_refused(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    monkeypatch.setattr(pickled, "MOST_INSTRUCTIONS", 50)
    assert "more than 50 instructions" in refusal(lambda: read_published(scan))


@layouts
def test_a_tensor_that_repeats_one_number_is_refused(tmp_path: Path, *, zipped: bool) -> None:
    values = scan_values()
    values["model"][1]["embed.weight"] = torch.zeros(1).expand(10**7, 10**5)
    path = written(tmp_path / "x", values, zipped=zipped)
    assert "claims more numbers" in refusal(lambda: convert(path, config()))


def test_tensors_that_share_their_numbers_are_refused(tmp_path: Path) -> None:
    values = scan_values()
    wide = torch.zeros(20_000)
    values["model"][1] |= {f"w{number}": wide for number in range(200)}
    path = written(tmp_path / "x", values)
    assert "claim more than the file holds" in refusal(lambda: convert(path, config()))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "x", scan_values(), zipped=True)
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(tmp_path / "y", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compressed" in refusal(lambda: read_published(tmp_path / "y"))


def test_a_changed_byte_of_an_archive_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "x", scan_values(), zipped=True)
    content = bytearray(path.read_bytes())
    place = content.find(gru_parts()[0]["fc.weight"].numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert "checksum" in refusal(lambda: read_published(path))


@layouts
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, *, zipped: bool) -> None:
    content = written(tmp_path / "x", scan_values(), zipped=zipped).read_bytes()
    cut = tmp_path / "cut"
    for length in [
        *range(0, 64, 7),
        *range(64, len(content), len(content) // 40),
        len(content) - 1,
    ]:
        cut.write_bytes(content[:length])
        assert str(cut) in refusal(lambda: convert(cut, config()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = written(folder / "x", scan_values(), zipped=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content) - 1, 3000)))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(VisavisError):
        convert(path, config())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b'{"model": 1}', "not a file of torch.save"),
        (b"PK\x03\x04 no archive", "not a file of torch.save"),
        (pickle.dumps({"model": []}, 2), "not a file of torch.save"),
        ((DATA / "text" / "f30k_precomp_vocab.pkl").read_bytes(), "asks for __main__.Vocabulary"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.pth.tar"
    path.write_bytes(content)
    assert said in refusal(lambda: read_published(path))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(lambda: read_published(tmp_path / "x"))
    assert "cannot be read" in refusal(lambda: read_published(tmp_path))


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(2), {"state_dict": {}}, {"model": {"a": torch.zeros(2)}}, {"model": []},
        {"model": [{}]}, {"model": [{"a": 1}]}, {"model": [{1: torch.zeros(1)}]},
        {"model": [{"a": torch.zeros(1)}], "opt": [1]},
    ],
)  # fmt: skip
def test_other_values_are_refused(tmp_path: Path, values: object) -> None:
    path = written(tmp_path / "x", values)
    assert "expected a checkpoint of SCAN" in refusal(lambda: read_published(path))
