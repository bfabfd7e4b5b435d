"""LFW's pairs.txt, and any file in its form.

A header, `folds pairs`; then for every fold that many lines `name i j`, a person's own pair, and as many lines
`name1 i name2 j`, a pair of strangers. Image i of a person is name/name_000i.jpg (or .png).
"""

from pathlib import Path

from facecore.errors import DataError
from facecore.verify.pairs import NamedPairs, PairProtocol, image_folder, is_count, read_text

EXPECTED = {
    3: "'NAME I J', two images of one person",
    4: "'NAME1 I NAME2 J', images of two people",
}


def read_lfw(path: Path, images: Path | None) -> PairProtocol:
    """The pairs of a file in the form of LFW's pairs.txt; raises DataError naming the first line that is amiss."""
    root = image_folder(path, images)
    lines = read_text(path).rstrip().split("\n")
    folds, per_kind = _header(path, lines[0])
    _check_length(path, len(lines), folds, per_kind)
    pairs = NamedPairs([], [], [], [])
    suffix = ""
    for number, line in enumerate(lines[1:]):
        fold, place = divmod(number, 2 * per_kind)
        left, right = _names(f"{path}:{number + 2}", line, fields=3 if place < per_kind else 4)
        if not suffix:  # one kind of file for the whole set, as the first image has it
            suffix = ".png" if (root / f"{left}.png").is_file() else ".jpg"
        pairs.left.append(left + suffix)
        pairs.right.append(right + suffix)
        pairs.same.append(place < per_kind)
        pairs.fold.append(fold + 1)
    return pairs.protocol_under(root, path)


def _header(path: Path, line: str) -> tuple[int, int]:
    numbers = line.split()
    if len(numbers) != 2 or not all(is_count(number) and int(number) for number in numbers):
        raise DataError(f"{path}:1: found {_shown(line)}, expected 'FOLDS PAIRS', two numbers, as in LFW's '10 300'")
    return int(numbers[0]), int(numbers[1])


def _check_length(path: Path, lines: int, folds: int, per_kind: int) -> None:
    expected = 2 * folds * per_kind
    if lines - 1 != expected:
        raise DataError(
            f"{path} has {lines - 1:,} pairs, but its header says {folds} folds of 2 x {per_kind:,}, which is "
            f"{expected:,}; check that it is the whole file"
        )


def _names(where: str, line: str, *, fields: int) -> tuple[str, str]:
    """The two images of a line, without suffix."""
    parts = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
    indices = parts[1:] if fields == 3 else parts[1::2]
    if len(parts) != fields or not all(parts) or not all(map(is_count, indices)):
        raise DataError(f"{where}: found {_shown(line)}, expected {EXPECTED[fields]}")
    people = (parts[0], parts[0] if fields == 3 else parts[2])
    left, right = (f"{name}/{name}_{int(index):04d}" for name, index in zip(people, indices, strict=True))
    return left, right


def _shown(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:80] + "...")
