"""The results of a sweep as files of tidy rows, and as one screen."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from facecore.curve.pools import RANDOM
from facecore.curve.results import Place, Results
from facecore.curve.statistics import Interval
from facecore.manifest import with_provenance
from facecore.provenance import Provenance, written_whole

TEACHER, CALIBRATED = "teacher", "calibrated"  # methods of the rows of the references
FARS = ("1e-1", "1e-2", "1e-3")
SCHEMA = pa.schema(
    {
        "protocol": pa.string(),
        "method": pa.string(),
        "fraction": pa.float64(),
        "seed": pa.int64(),
        "budget": pa.string(),
        "bits": pa.string(),
        "faces": pa.int64(),
        "identities": pa.int64(),
        "steps": pa.int64(),
        "seconds_select": pa.float64(),
        "seconds_quantize": pa.float64(),
        "accuracy": pa.float64(),
        "standard_error": pa.float64(),
        **{f"tar_{far}": pa.float64() for far in FARS},
        "points_lost": pa.float64(),
        "cosine_to_teacher": pa.float64(),
    }
)


def write_tables(results: Results) -> None:
    """Write curve.parquet, curve.csv and differences.csv."""
    out, sweep = results.sweep.out, results.sweep
    asked = {
        "fractions": list(sweep.options.fractions),
        "methods": list(sweep.pool.methods),
        "seeds": list(sweep.options.seed_range),
    }
    common = sweep.provenance
    made = Provenance("curve", {**common.options, **asked}, {**common.inputs, **sweep.sha256})
    table = pa.Table.from_pylist(list(_rows(results)), SCHEMA)
    with written_whole(out / "curve.parquet") as part:
        pq.write_table(table.cast(with_provenance(SCHEMA, made)), part, compression="zstd")
    _write_csv(table, out / "curve.csv")
    _write_csv(pa.Table.from_pylist(list(_differences(results)), DIFFERENCES), out / "differences.csv")


def _write_csv(table: pa.Table, path: Path) -> None:
    with written_whole(path) as part:
        pyarrow.csv.write_csv(table, part, pyarrow.csv.WriteOptions(quoting_style="needed"))


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row a point and protocol, that of the fraction 1 for every method; then those of the references."""
    sweep = results.sweep
    for protocol in results.protocols:
        for method in sweep.pool.methods:
            for fraction in sweep.options.fractions:
                for seed in sweep.options.seed_range:
                    report = results.reports[sweep.point(method, fraction, seed)]
                    yield {
                        "protocol": protocol,
                        "method": method,
                        "fraction": fraction,
                        "seed": seed,
                        **_facts(report),
                        **_figures(results, protocol, report["accuracy"][protocol]["fine_tuned"]),
                    }
        whole = results.reports[sweep.points[0]]
        cosines = {"float": 1.0, "calibrated": whole["cosine_to_teacher"]["calibrated"]["mean"]}
        for method, stage in ((TEACHER, "float"), (CALIBRATED, "calibrated")):
            yield {
                "protocol": protocol,
                "method": method,
                "fraction": 1.0,
                **({"bits": whole["bits"]} if stage == "calibrated" else {}),
                **_figures(results, protocol, results.references[stage][protocol][stage]),
                "cosine_to_teacher": cosines[stage],
            }


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    seconds = report["seconds"]
    return {
        "budget": report["point"]["budget"],
        "bits": report["bits"],
        "faces": report["faces"],
        "identities": report["point"]["identities"],
        "steps": report["checkpoints"][-1]["step"],
        "seconds_select": seconds["select"],
        "seconds_quantize": seconds["calibrate"] + seconds["fine_tune"],
        "cosine_to_teacher": report["cosine_to_teacher"]["fine_tuned"]["mean"],
    }


def _figures(results: Results, protocol: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "accuracy": found["accuracy"],
        "standard_error": found["standard_error"],
        **{f"tar_{far}": found["tar"].get(far) for far in FARS},
        "points_lost": 100 * (results.reference(protocol, "float") - found["accuracy"]),
    }


DIFFERENCES = pa.schema(
    {
        "protocol": pa.string(),
        "method": pa.string(),
        "fraction": pa.float64(),
        "points_above_random": pa.float64(),
        "half_interval": pa.float64(),
        "noise": pa.bool_(),
    }
)


def _differences(results: Results) -> Iterator[dict[str, Any]]:
    for protocol in results.protocols:
        for method in results.sweep.pool.methods:
            for fraction in results.sweep.options.fractions:
                place = Place(protocol, method, fraction)
                found = results.above_chance(place)
                if found is not None and found.half is not None:
                    yield {
                        **place._asdict(),
                        "points_above_random": 100 * found.mean,
                        "half_interval": 100 * found.half,
                        "noise": found.is_noise,
                    }


def text_of(results: Results) -> str:
    """A table for every protocol: a row a fraction, a column a method, and by how much it is above random."""
    seeds = results.sweep.options.seeds
    of = f"{seeds} seeds, +- 95 % interval" if seeds > 1 else "1 seed"
    lines = [f"accuracy in % of {results.sweep.quantize.bits} networks, {of}; {results.budget}"]
    for protocol in results.protocols:
        teacher, calibrated = (results.reference(protocol, stage) for stage in ("float", "calibrated"))
        lines += ["", f"{protocol}: teacher {100 * teacher:.2f}, calibrated only {100 * calibrated:.2f}"]
        lines += _aligned(list(_table(results, protocol)))
    if any(True for _ in _differences(results)):
        lines += ["", "noise: the 95 % interval of the paired difference, over folds and seeds, holds 0"]
    return "\n".join(lines)


def _table(results: Results, protocol: str) -> Iterator[list[str]]:
    methods = results.sweep.pool.methods
    compared = [method for method in methods if RANDOM in methods and method != RANDOM]
    yield ["fraction", "faces", *methods, *(f"{method} - {RANDOM}" for method in compared)]
    for fraction in results.sweep.options.fractions:
        point = results.sweep.point(methods[0], fraction, results.sweep.options.seed_range[0])
        found = [results.accuracy(Place(protocol, method, fraction)) for method in methods]
        differences = [results.above_chance(Place(protocol, method, fraction)) for method in compared]
        yield [
            f"{fraction:g}",
            f"{results.reports[point]['faces']:,}",
            *(f"{100 * of.mean:.2f}{_half(of)}" for of in found),
            *(f"{round(100 * of.mean, 2) + 0.0:+.2f}{_half(of)}{_verdict(of)}" if of else "same" for of in differences),
        ]


def _half(of: Interval) -> str:
    return "" if of.half is None else f" +- {100 * of.half:.2f}"


def _verdict(of: Interval) -> str:
    return "  noise" if of.is_noise else "  above" if of.mean > 0 else "  below"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
