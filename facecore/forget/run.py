"""The stage: people withdrawn from stores and manifests, everywhere or nowhere."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from facecore.errors import DataError, OptionError
from facecore.forget.listing import Listing
from facecore.forget.names import Forgotten
from facecore.forget.receipt import FileEntry, Receipt, finish, journal_path, write_journal
from facecore.forget.stores import Store
from facecore.manifest import dropped_path, provenance_of
from facecore.provenance import check_folder, sha256_of

log = logging.getLogger(__name__)


def forget(
    names: Sequence[str],
    *,
    stores: Sequence[Path] = (),
    manifests: Sequence[Path] = (),
    receipt: Path,
    hash_names: bool = False,
    allow_absent: bool = False,
    dry_run: bool = False,
) -> Receipt:
    """Remove identities, and else faces, by their names from stores, manifests and the dropped faces beside these.

    All files change or none: killed at any moment and run again with the same arguments, it ends as if it never was.
    A subset whose dropped faces are neither beside it nor among `manifests` is warned of.
    `hash_names` keeps the names themselves out of the receipt; `dry_run` only says what would be removed. Raises
    OptionError if there is nobody or nothing, DataError if a receipt is there already, or if a name is nowhere, unless
    `allow_absent` has the receipt list it instead.
    """
    wanted = sorted(set(names))
    if not wanted or not all(map(str.strip, wanted)):
        what = "a name is blank" if wanted else "nobody is named"
        raise OptionError(f"{what}; give identities or face_ids, or a file of them by --from")
    if not stores and not manifests:
        raise OptionError("there is nothing to remove them from; give --embeddings or --manifest")
    asked = Receipt(_as_written(wanted, hash_names), hash_names, 0, ())
    if journal_path(receipt).exists():
        return _go_on(receipt, asked, dry_run=dry_run)
    if receipt.exists():
        raise DataError(f"{receipt} exists, and receipts are kept; choose another --receipt")
    check_folder(receipt.parent)
    stores, listings = _each_once(stores), _each_once([*manifests, *_dropped_beside(manifests)])
    targets: list[Store | Listing] = [*map(Store, stores), *map(Listing, listings)]
    _warn_of_others(listings)
    who = Forgotten.among(chain.from_iterable(target.names() for target in targets), wanted)
    if who.absent and not allow_absent:
        raise DataError(
            f"{who.absent[0]} is no identity and no face_id in any of the files ({len(who.absent):,} of "
            f"{len(wanted):,} names are none); nothing was touched: mend the names, or give --allow-absent"
        )
    asked = replace(asked, identities=len(who.identities), absent=_as_written(who.absent, hash_names))
    if dry_run:
        return replace(asked, files=_withdrawn(targets, who, write=False))
    _check_writable([*stores, *(path.parent for path in listings)])
    _discard(targets)  # what a killed run left
    try:
        write_journal(replace(asked, files=_withdrawn(targets, who, write=True)), receipt)
    except BaseException:
        if not journal_path(receipt).exists():
            _discard(targets)
        raise
    return finish(receipt)


def _as_written(names: Sequence[str], hash_names: bool) -> tuple[str, ...]:
    """Names as a receipt has them, sorted."""
    return tuple(sorted(map(sha256_of, names) if hash_names else names))


def read_names(path: Path) -> list[str]:
    """The names in a file, one a line; raises DataError if it is not text."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; write it again, one name a line") from error


def _go_on(path: Path, asked: Receipt, *, dry_run: bool) -> Receipt:
    """Finish what a killed run left undone; raises DataError if that was about others than now."""
    if dry_run:
        raise DataError(f"{journal_path(path)} is of a run that was stopped; run it again first, without --dry-run")
    done = finish(path)
    if done.names != asked.names:
        raise DataError(
            f"{path} was of a run that was stopped, and is finished now; choose another --receipt for this one"
        )
    return done


def _dropped_beside(manifests: Sequence[Path]) -> list[Path]:
    """The dropped faces of manifests, beside these and beside what they lead to where they are links."""
    beside = map(dropped_path, [*manifests, *map(_real, manifests)])
    return [path for path in beside if path.exists()]


def _warn_of_others(listings: Sequence[Path]) -> None:
    """Say of which subset the dropped faces are elsewhere: somebody may stay in them."""
    there = [path.name for path in listings]
    for path in listings:
        made, dropped = provenance_of(path), dropped_path(path).name
        if not made or not made.facts.get("dropped") or path.name.endswith(".dropped.parquet"):
            continue
        if dropped in there:
            there.remove(dropped)  # of one subset only: another may be called alike
        else:
            log.warning("%s is without its dropped faces, in which people stay; name %s with --manifest", path, dropped)


def _check_writable(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DataError(f"{folder} is not writable, so nothing was removed anywhere; change its permissions")


def _each_once(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), _real(path))
    return list(found.values())


def _real(path: Path) -> Path:
    """The path, or what it leads to if it is a link: replaced itself, it would leave everybody there."""
    return path.resolve() if path.is_symlink() else path


def _discard(targets: Sequence[Store | Listing]) -> None:
    for target in targets:
        target.discard()


def _withdrawn(targets: Sequence[Store | Listing], who: Forgotten, *, write: bool) -> tuple[FileEntry, ...]:
    return tuple(entry for target in targets for entry in target.withdraw(who, write=write))
