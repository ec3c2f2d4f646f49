"""Tables that stages hand to each other: numbers come back as they were written."""

import numpy as np
import pyarrow as pa
import pytest

from castline.files import tables

NUMBERS = np.arange(40, dtype=np.float32).reshape(10, 4)
FIXED = pa.table({"f": pa.FixedSizeListArray.from_arrays(pa.array(NUMBERS.ravel()), 4)})
SPARSE = pa.table({"f": tables.sparse_column(NUMBERS, np.arange(10) % 2 == 0)})


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (FIXED, NUMBERS),
        (FIXED.slice(2, 5), NUMBERS[2:7]),
        (pa.concat_tables([FIXED.slice(8), FIXED.slice(0, 1)]), NUMBERS[[8, 9, 0]]),
        (FIXED.take(pa.array([7, 3])), NUMBERS[[7, 3]]),
        (FIXED.slice(0, 0), np.zeros((0, 4))),
        (SPARSE.filter(SPARSE.column("f").is_valid()), NUMBERS[::2]),
        (SPARSE.filter(SPARSE.column("f").is_valid()).slice(1, 2), NUMBERS[[2, 4]]),
        (SPARSE.slice(0, 0), np.zeros((0, 0))),
    ],
)
def test_a_column_of_lists_is_a_matrix(table: pa.Table, expected: np.ndarray) -> None:
    found = tables.matrix(table, "f")
    assert found.dtype == np.float32 and found.shape == expected.shape and np.array_equal(found, expected)
