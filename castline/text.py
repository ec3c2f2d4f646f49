"""Plain tables for the terminal."""

from collections.abc import Collection, Sequence

from castline.evaluation.names import short

__all__ = ["table"]


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of equal length, a line each, in aligned columns; those in `right` end where the widest ends.

    Cells may come from anybody's repository: what would move the cursor or turn the text round is made visible.

    >>> print(table([("file", "top-1"), ("int8", "0.9")], right={1}))
    file  top-1
    int8    0.9
    """
    cells = [[short(cell, 60) if cell else "" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
