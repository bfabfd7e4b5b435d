"""The synthesis stage: a source of faces in, a folder of images and its manifest out."""

from dataclasses import dataclass
from pathlib import Path

from facecore.errors import DataError, OptionError
from facecore.models import load_backbone
from facecore.models.load import CHECKPOINTS
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.synthesis.generator import Generator
from facecore.synthesis.inversion import FromModel
from facecore.synthesis.options import SynthesisOptions
from facecore.synthesis.picture import resized
from facecore.synthesis.records import DROPPED, STAGE, Records
from facecore.synthesis.screen import Screen, Verdict
from facecore.synthesis.source import Parametric, Source

MOST_DROPPED = 0.9  # of the faces made; a screen that lets fewer through would keep the machine busy for ever
FEWEST_MADE = 256  # before that is said


@dataclass(frozen=True)
class Origin:
    """What to make faces of: exactly one of a generator's file, a network's file, and nothing at all."""

    generator: Path | None = None
    from_model: Path | None = None
    parametric: bool = False
    arch: str | None = None  # of checkpoints: to make them from, or of the teacher

    def __post_init__(self) -> None:
        if (self.generator is not None) + (self.from_model is not None) + self.parametric != 1:
            raise OptionError("give one of --generator, --from-model and --parametric")

    def open(self, options: SynthesisOptions) -> Source:
        """The source; raises ModelError if a file is not what it should be, OptionError for an option of another."""
        if self.generator is not None:
            options.check_source(Generator.name)
            return Generator(self.generator, options)
        if self.from_model is not None:
            options.check_source(FromModel.name)
            return FromModel(self.from_model, options, arch=self.arch)
        options.check_source(Parametric.name)
        return Parametric(options)


@dataclass(frozen=True)
class Synthesis:
    """What a run did, in numbers."""

    faces: int
    resumed: int  # of them, those that were there already
    mended: int  # of them, those that were there once, and whose images were missing or cut short
    dropped: dict[str, int]  # by reason


def synthesize(
    origin: Origin,
    out: Path,
    options: SynthesisOptions,
    *,
    count: int,
    teacher: Path | None = None,
    overwrite: bool = False,
) -> Synthesis:
    """Make faces until `count` of them stay, as PNG images in `out`, with a manifest; goes on where it was stopped.

    Face i depends on the options and i alone, so that more faces begin with those that fewer are; images that are
    missing or cut short are made again. With a teacher, what a `Screen` drops is listed in out/dropped.parquet.
    Raises DataError if `out` holds anything else, or more faces, or if nine in ten are dropped.
    """
    if count < 1:
        raise OptionError(f"count must be at least 1, got {count}")
    if teacher is None and origin.from_model is None and (origin.arch or options.preprocess):
        raise OptionError("--arch, --mean, --scale and --bgr are of --from-model or --teacher; leave them out")
    source = origin.open(options)
    screen = _screen(teacher, options, origin)
    made = Provenance(STAGE, {"source": source.name, **options.recorded(source.name)}, _inputs(source, screen))
    records = Records(out, made, overwrite=overwrite)
    there = records.kept
    if there > count:
        raise DataError(f"{out} holds {there:,} faces, more than --count {count:,}; choose another --out")
    mended = _mend(source, records, options)
    _make(source, screen, records, options, count)
    records.finish(source.facts, judged=screen is not None)
    return Synthesis(count, there - mended, mended, dict(sorted(records.dropped.items())))


def _screen(teacher: Path | None, options: SynthesisOptions, origin: Origin) -> Screen | None:
    if teacher is None:
        if options.min_norm is not None or options.max_cosine is not None:
            raise OptionError("--min-norm and --max-cosine are about embeddings; name the network with --teacher")
        return None
    arch = origin.arch if origin.from_model is None or teacher.suffix.lower() in CHECKPOINTS else None
    return Screen(load_backbone(teacher, arch=arch), options)


def _inputs(source: Source, screen: Screen | None) -> dict[str, str]:
    return {**source.inputs, **({"teacher": screen.sha256} if screen else {})}


def _mend(source: Source, records: Records, options: SynthesisOptions) -> int:
    """Make the batches again of which images are lost; returns how many images were."""
    lost = records.lost()
    with progress(len(lost), "mend", "batches") as bar:
        for number, rows in lost.items():
            records.mend(number, rows, resized(source.faces(number), options.size))
            bar.update()
    return sum(map(len, lost.values()))


def _make(source: Source, screen: Screen | None, records: Records, options: SynthesisOptions, count: int) -> None:
    """Make what is missing, batch by batch."""
    kept = records.embeddings(screen.dimension) if screen else None
    there = records.kept
    with progress(count - there, "synthesize", "faces") as bar:
        while there < count:
            number, first = divmod(records.made, source.batch)
            faces = range(number * source.batch, (number + 1) * source.batch)
            pixels = resized(source.faces(number), options.size)
            if screen is not None and kept is not None:
                verdicts = screen.judge(pixels, faces, first, kept)
            else:
                verdicts = [Verdict()] * (source.batch - first)
            verdicts = _until(verdicts, count - there)
            for face, verdict in zip(faces[first:], verdicts, strict=False):
                if kept is not None and verdict.unit is not None:
                    kept.add(face, verdict.unit)
            records.add(number, pixels[first : first + len(verdicts)], verdicts)
            bar.update(records.kept - there)
            there = records.kept
            _check_dropped(records)


def _until(verdicts: list[Verdict], stay: int) -> list[Verdict]:
    """The verdicts up to the one with which this many faces stay."""
    staying = 0
    for place, verdict in enumerate(verdicts):
        staying += verdict.reason is None
        if staying == stay:
            return verdicts[: place + 1]
    return verdicts


def _check_dropped(records: Records) -> None:
    dropped = records.dropped
    if records.made >= FEWEST_MADE and dropped.total() > MOST_DROPPED * records.made:
        records.write_dropped()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))
        raise DataError(
            f"{records.out}: {dropped.total():,} of {records.made:,} faces were dropped ({reasons}); "
            f"see {records.out / DROPPED}, then lower --min-norm or raise --max-cosine, and add --overwrite"
        )
