"""Pairs as a CSV file: columns left, right, same and, if there are folds, fold."""

import io
from pathlib import Path

import pandas as pd

from facecore.errors import DataError
from facecore.verify.pairs import NamedPairs, PairProtocol, contiguous_folds, image_folder, is_count, read_text

SAME = {"1": True, "true": True, "0": False, "false": False}
REQUIRED = ("left", "right", "same")


def read_table(path: Path, images: Path | None) -> PairProtocol:
    """The pairs of a CSV file; other columns are ignored.

    `left` and `right` are paths below `images`; `same` is 0, 1, true or false; `fold` is a whole number, and without
    that column the folds are ten contiguous runs in file order. Raises DataError naming the first line that is amiss.
    """
    root = image_folder(path, images)
    table = _columns(path)
    rows = [tuple(str(cell).strip() for cell in row) for row in table.itertuples(name=None)]  # line, then the cells
    for line, left, right, *_ in rows:
        if not (left and right):
            raise DataError(f"{path}:{line}: {'right' if left else 'left'} is empty, expected the path of an image")
    same = [_same(f"{path}:{row[0]}", row[3]) for row in rows]
    has_folds = "fold" in table.columns
    fold = [_fold(f"{path}:{row[0]}", row[4]) for row in rows] if has_folds else contiguous_folds(len(rows))
    return NamedPairs([row[1] for row in rows], [row[2] for row in rows], same, fold).protocol_under(root, path)


def _columns(path: Path) -> pd.DataFrame:
    """The columns left, right, same and fold as text; the index is the line in the file; blank lines are left out."""
    try:
        # header=None, because a named header lets rows that are longer than it shift into an index without a word
        cells = pd.read_csv(
            io.StringIO(read_text(path)), header=None, dtype=str, keep_default_na=False, skip_blank_lines=False
        )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; expected a header with left, right and same") from None
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise DataError(f"{path} is not a CSV file: {reason}") from None
    cells = cells.fillna("")  # a row that ends early
    cells.index += 1
    names = [str(name).strip() for name in cells.iloc[0]]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]}; found {', '.join(names)}; expected left, right, same, fold"
        )
    wanted = [*REQUIRED, "fold"] if "fold" in names else [*REQUIRED]
    filled = cells.iloc[1:][(cells.iloc[1:] != "").any(axis=1)]
    return filled[[names.index(name) for name in wanted]].set_axis(wanted, axis=1)


def _same(where: str, cell: str) -> bool:
    if cell.lower() not in SAME:
        raise DataError(f"{where}: same is {cell!r}, expected 0, 1, true or false")
    return SAME[cell.lower()]


def _fold(where: str, cell: str) -> int:
    if not is_count(cell):
        raise DataError(f"{where}: fold is {cell!r}, expected a whole number")
    return int(cell)
