"""What can go wrong for a user; each message is one line that says what, where, and what to do next.

FacecoreError
├── OptionError   an option outside its range, or options that contradict each other
├── DataError     a data set, image, manifest or store that is not what it should be
└── ModelError    a file that is not a model, or not one that fits
"""


class FacecoreError(Exception):
    """The user can mend this: the command prints it as one line and exits with 1."""


class OptionError(FacecoreError):
    """An option is outside its range, or two options contradict each other."""


class DataError(FacecoreError):
    """A data set, image, manifest or embedding store is not what it should be."""


class ModelError(FacecoreError):
    """A file is not a model, or not one that fits the job."""
