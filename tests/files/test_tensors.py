"""Reading safetensors without the library: what it says of every file that the library writes, and of no other."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from castline.files.tensors import read_tensors

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


files = st.builds(
    save,
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), arrays(), max_size=4),
    st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=3),
)


def same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors") / "x.safetensors"


@given(files)
@settings(deadline=None)
def test_it_reads_what_the_library_writes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    found, metadata = read_tensors(data)
    assert same(found, load_file(path))
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert metadata == (said.get("__metadata__") or {})
    assert all(array.flags.writeable and array.flags.aligned for array in found.values())


@given(files, st.data())
@settings(deadline=None, max_examples=200)
def test_of_a_damaged_file_it_takes_nothing_that_the_library_does_not(
    path: Path, data: bytes, draw: st.DataObject
) -> None:
    damaged = bytearray(data)
    if draw.draw(st.booleans()):
        del damaged[draw.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        damaged[draw.draw(st.integers(0, min(len(damaged), 200) - 1))] = draw.draw(
            st.sampled_from(b'\x00\xff0129"[]{},:-e ')
        )
    path.write_bytes(damaged)
    try:
        found, _ = read_tensors(bytes(damaged))
    except ValueError:
        return
    try:
        expected = load_file(path)
    except SafetensorError as error:  # pragma: no cover
        raise AssertionError(f"the library does not read it: {error}") from error
    assert same(found, expected)


def file_of(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def array(
    begin: object = 0, end: object = 4, dtype: object = "F32", shape: object = (1,), **more: object
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "longer than the file"),
        (b"\x00" * 7, "longer than the file"),
        (file_of({}, length=3), "longer than the file"),
        (file_of({}, length=2**63), "longer than the file"),
        (file_of(b"{\xff}"), "utf-8"),
        (file_of(b"["), "Expecting"),
        (file_of(b"[" * 100_000), "nested too deeply"),
        (file_of([]), "no JSON object"),
        (file_of({"__metadata__": {"a": 1}}), "not text"),
        (file_of(b'{"a": {}, "a": {}}'), "twice"),
        (file_of({"a": array()}, b"123"), "do not hold"),
        (file_of({"a": array(0, 8)}, bytes(8)), "do not hold"),
        (file_of({"a": array(4, 0)}, bytes(4)), "do not hold"),
        (file_of({"a": array(4, 8)}, bytes(8)), "a gap"),
        (file_of({"a": array(), "b": array()}, bytes(4)), "overlap"),
        (file_of({"a": array(), "b": array(2, 6)}, bytes(6)), "overlap"),
        (file_of({"a": array()}, bytes(5)), "1 bytes after"),
        (file_of({"a": array(dtype="BF16", end=2)}, bytes(2)), "known type"),
        (file_of({"a": array(-4, 0)}, bytes(4)), "known type"),
        (file_of({"a": array(0, 4.0)}, bytes(4)), "known type"),
        (file_of({"a": array(shape=[True])}, bytes(4)), "known type"),
        (file_of({"a": array(shape=[-1, -1])}, bytes(4)), "known type"),
        (file_of({"a": array(shape=[2**70])}, bytes(4)), "do not hold"),
        (file_of({"a": array(shape=None)}, bytes(4)), "known type"),
        (file_of({"a": array(more=1)}, bytes(4)), "known type"),
        (file_of({"a": []}), "known type"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_tensors(data)
