"""What can go wrong for a user; each message is one line that says what, where, and what to do next.

FacecoreError
├── OptionError   an option outside its range, or options that contradict each other
├── DataError     a data set, image, manifest or store that is not what it should be
├── ModelError    a file that is not a model, or not one that fits
└── StorageError  remote storage that does not answer
"""


class FacecoreError(Exception):
    """The user can mend this: the command prints it as one line and exits with 1."""

    def __str__(self) -> str:
        return printable(super().__str__())


class OptionError(FacecoreError):
    """An option is outside its range, or two options contradict each other."""


class DataError(FacecoreError):
    """A data set, image, manifest or embedding store is not what it should be."""


class ModelError(FacecoreError):
    """A file is not a model, or not one that fits the job."""


class StorageError(FacecoreError):
    """Remote storage does not answer, which says nothing of a face: the run stops, where a DataError rejects one."""


def printable(text: str) -> str:
    """A text on one line: names in data may hold line ends or commands to a terminal; Python's spelling is shown."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def counted(count: int, noun: str) -> str:
    """Such as 1 face, 2 faces, 1,000 identities."""
    nouns = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else nouns}"


def check_max_rejected(max_rejected: float) -> None:
    """Raise OptionError unless a share of the faces is one, from 0 to 1."""
    if not 0 <= max_rejected <= 1:
        raise OptionError(
            f"max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got {max_rejected}"
        )


def check_seed(seed: int) -> None:
    """Raise OptionError unless a seed is from 0 to 2**64 - 1, what every draw of facecore takes."""
    if seed < 0:
        raise OptionError(f"seed must be 0 or more, got {seed}")
    if seed >= 1 << 64:
        raise OptionError(f"seed must be below 2**64, got {seed}")
