"""How to export."""

from dataclasses import dataclass, field

from facecore.errors import OptionError, check_max_rejected

LINKS = ("copy", "hard", "symbolic")


@dataclass(frozen=True)
class ExportOptions:
    """How to export a data set."""

    shuffle: int | None = field(
        default=None, metadata={"help": "Seed: write the faces in a random order, for training that reads in order."}
    )
    shard_faces: int = field(
        default=10_000, metadata={"help": "Faces a shard of webdataset and parquet; others are resumed by as many."}
    )
    link: str = field(default="copy", metadata={"help": "What a folder holds: copy, or links: hard, symbolic."})
    workers: int = field(default=2, metadata={"help": "Threads that read and check images."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})

    def __post_init__(self) -> None:
        for name in ("shard_faces", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shuffle is not None and self.shuffle < 0:
            raise OptionError(f"shuffle is a seed, a whole number from 0; got {self.shuffle}")
        if self.link not in LINKS:
            raise OptionError(f"link must be one of {', '.join(LINKS)}; got {self.link}")
        check_max_rejected(self.max_rejected)

    def check_fits(self, to: str) -> None:
        """Raise OptionError for an option that the format has no use for."""
        if self.shuffle is not None and to == "folder":
            raise OptionError(
                "--shuffle is for formats that are read in their order, and a folder has none; leave it out"
            )
        if self.link != "copy" and to != "folder":
            raise OptionError(f"--link is for --to folder, and {to} holds the images themselves; leave it out")
