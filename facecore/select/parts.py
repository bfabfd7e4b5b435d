"""A selection shard by shard, by any number of processes that share files: what job arrays and clusters call.

    OUT.parts/FINGERPRINT/centres-00003.npz     what a step found out about shard 3 of the store
    OUT.parts/FINGERPRINT/centres.npy           the same of all shards, where later steps need all at once; and .sha256
    OUT.parts/FINGERPRINT/survey.json           what is known when all is looked over
    OUT.parts/FINGERPRINT/threshold.json        what the first pass led to

An engine asks for the `next_step`, does the `work` of all its shards, calls `merge` where the step says so, and begins
again, until `merge` returns a Selection.

The steps are those that the selector needs to look over the store (`centres`, `neighbours` or `duplicates`, if any),
then `profile`, unless the threshold is given, and `cut`. The work on one shard depends on no other of its step, and
every file is written whole: a part that is there is finished, and two processes that do the same one do no harm. The
folder is called by the fingerprint of options and faces, so that parts of others are never taken for one's own.
"""

from collections.abc import Iterable

import numpy as np

from facecore.embeddings import Embeddings, Shard
from facecore.errors import DataError
from facecore.grid import LEVELS
from facecore.parallel import cores
from facecore.select.part_files import PartFiles, Step, SurveyInParts, Unfinished
from facecore.select.run import Counted, Job, Selection, Stage
from facecore.select.selector import KEPT, Fates, Ranked, Ranking
from facecore.select.threshold import Candidates

_FATES = ("reason", "sparsity", "suppression", "rival", "rival_level")
_CANDIDATES = ("row", "identity", "sparsity", "spare")


def next_step(job: Job, *, overwrite: bool = False, threads: int | None = None) -> Step:
    """What to do now; puts together what was found out about all shards, if that is the next thing.

    Raises what `select` raises before any work, and DataError if there are parts of other options or faces.
    """
    faces = job.open(overwrite=overwrite)
    folder = PartFiles(job, faces)
    folder.check_alone()
    if not folder.surveyed.exists():
        target = job.target(faces)
        try:
            ranking = job.selector.ranking(SurveyInParts(folder, threads or cores()))
        except Unfinished as unfinished:
            return unfinished.step
        stage = Stage(faces, job.selector.cutter(ranking), threads or cores())
        levels = stage.levels_for(target) if target else (0, LEVELS - 1)
        folder.write_known(folder.surveyed, {"levels": levels, "facts": ranking.facts()})
    if job.keep is not None:
        profile = folder.step("profile", range(len(faces)))
        if profile.missing or folder.threshold() is None:  # it is cut by their ranks, too
            return profile
    return folder.step("cut", range(len(faces)))


def work(job: Job, step: Step, numbers: Iterable[int], *, threads: int | None = None) -> None:
    """Do a step for these shards, by their numbers; of the others nothing is read.

    The store is opened, and where a rank searches, an index is built, once a call: give it several shards at a time.
    """
    faces = Embeddings.open(job.store)
    folder = PartFiles(job, faces)
    if step.name == "profile":
        _profile(folder, numbers, threads or cores())
    elif step.name == "cut":
        _cut(folder, numbers, threads or cores())
    else:
        try:
            job.selector.ranking(SurveyInParts(folder, threads or cores(), step.name, numbers))
        except Unfinished:
            pass


def merge(job: Job, *, overwrite: bool = False, threads: int | None = None) -> float | Selection:
    """After `profile` find and return t*; after `cut` write the subset, see `select`, and remove the parts.

    Raises DataError, with their numbers, if parts are missing.
    """
    faces = job.open(overwrite=overwrite)
    target = job.target(faces)
    folder = PartFiles(job, faces)
    folder.check_alone()
    if not folder.path.exists():
        raise DataError(
            f"no parts at {folder.root}; run the tasks first, with --shard-index and --num-shards instead of --merge"
        )
    step = next_step(job, overwrite=overwrite, threads=threads)
    if step.missing:
        raise DataError(
            f"{folder.root}: {step.name} is missing of {len(step.missing):,} of {step.shards:,} shards "
            f"({_listed(step.missing)}); run the array again, which does only these, then --merge"
        )
    stage = folder.stage(threads or cores())
    if step.name == "profile":
        assert target is not None
        counted = Counted(np.zeros(LEVELS, np.int64), np.zeros(LEVELS, np.int64))
        for number in range(len(faces)):
            part = folder.read("profile", number, "small", "large")
            counted = Counted(counted.small + part["small"], counted.large + part["large"])
        threshold = stage.find_from(counted, target, *folder.levels)
        folder.write_known(folder.found, {"level": threshold.level, "surplus": threshold.surplus})
        return stage.t_star(threshold)
    return _finish(folder, stage)


def _finish(folder: PartFiles, stage: Stage) -> Selection:
    threshold = folder.threshold()
    assert threshold is not None
    fates, candidates = Fates.empty(stage.faces.rows), []
    for number in range(len(stage.faces)):
        part = folder.read("cut", number, *_FATES, *(f"candidate_{name}" for name in _CANDIDATES))
        fates.put(stage.faces.first(number), Fates(*(part[name] for name in _FATES)))
        candidates.append(Candidates(*(part[f"candidate_{name}"] for name in _CANDIDATES)))
    stage.trim(fates, Candidates.joined(candidates), threshold)
    target, kept = folder.job.target(stage.faces), int((fates.reason == KEPT).sum())
    if target is not None and kept != target.count:
        raise DataError(
            f"{target}, but the parts lead to {kept:,}: {folder.job.store} changed between the two passes; "
            f"put it back or embed anew, remove {folder.root} and begin again"
        )
    selection = stage.write(folder.job, fates, threshold)
    folder.remove()
    return selection


def _profile(folder: PartFiles, numbers: Iterable[int], threads: int) -> None:
    ranking = folder.job.selector.ranking(SurveyInParts(folder, threads))
    ranks: dict[int, Ranked] = {}

    def rank(shard: Shard) -> Ranked:
        ranks[shard.first] = ranked = ranking.of(shard)
        return ranked

    stage = Stage(folder.faces, folder.job.selector.cutter(Ranking(rank)), threads)
    for number in numbers:
        ranks.clear()
        pieces = folder.faces.pieces(number)
        counted = stage.count(pieces, *folder.levels)
        in_turn = [ranks[piece.first] for piece in pieces] or [Ranked(np.empty(0, np.float32))]
        folder.write(
            "profile", number, small=counted.small, large=counted.large,
            sparsity=np.concatenate([ranked.sparsity for ranked in in_turn]),
            values=np.concatenate([ranked.values for ranked in in_turn]),
        )  # fmt: skip


def _cut(folder: PartFiles, numbers: Iterable[int], threads: int) -> None:
    stage, threshold = folder.stage(threads), folder.threshold()
    assert threshold is not None
    for number in numbers:
        fates, candidates = stage.cut(folder.faces.pieces(number), threshold)
        found = {name: getattr(fates, name) for name in _FATES}
        folder.write("cut", number, **found, **{f"candidate_{name}": getattr(candidates, name) for name in _CANDIDATES})


def _listed(numbers: tuple[int, ...], most: int = 10) -> str:
    """Numbers in words, not all if they are many."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return shown + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")
