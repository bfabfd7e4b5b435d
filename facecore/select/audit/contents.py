"""Whether the store is the one that was selected from, by its sha256."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from facecore.embeddings import Embeddings, content_sha256, metadata_path, vectors_path
from facecore.parallel import in_order
from facecore.provenance import sha256_of_file
from facecore.select.audit.record import Record
from facecore.select.audit.report import Findings


def check_contents(store: Embeddings, record: Record, findings: Findings, *, hashes: bool, threads: int) -> None:
    """The record's sha256 is that of meta.json and, with `hashes`, of the files, each of them as meta.json has it."""
    same = record.sha256 == store.sha256
    other = f"meta.json of {store.path} has {store.sha256:.12}, the record {record.sha256:.12}"
    findings.add("contents", 1, [] if same else [other])
    if not hashes:
        findings.notes["contents"] = "its files were not read for that"
        return
    checks = list(_file_checks(store))
    wrong = [what for what in in_order(lambda check: check(), checks, threads=threads) if what]
    findings.add("contents", len(checks), wrong)


def _file_checks(store: Embeddings) -> Iterator[Callable[[], str]]:
    """Checks that say what is wrong, if anything is; the longest first."""
    yield partial(_check_content, store)
    for number, entry in enumerate(store.meta["shards"]):
        yield partial(_check_file, vectors_path(store.path, number), entry["img_emb"])
        yield partial(_check_file, metadata_path(store.path, number), entry["metadata"])


def _check_content(store: Embeddings) -> str:
    found = content_sha256(store.path, len(store))
    return "" if found == store.sha256 else f"the files hold {found:.12}, meta.json has {store.sha256:.12}"


def _check_file(path: Path, sha256: str) -> str:
    return "" if sha256_of_file(path) == sha256 else f"{path.name} is not the file that meta.json describes"
