"""Write benchmarks/README.md from the results, and draw its pictures.

python benchmarks/tables.py
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import learnt
import plots
import told
from record import RESULTS

HEAD = """# Benchmarks

Every table is made from a file in `results/` by `python benchmarks/tables.py`; under each stands what it was made with.
Figures are medians. Processes are measured whole, from their start to their end; a peak is resident memory. Seconds of
two machines cannot be compared, so what counts are processor time and ratios within one run. Every script has
`--smoke`, a size for tests, and `--folder`, where the faces that it generates stay for the next run.

The faces are made by `generator.py`: a pure function of seed, shard and block, with identities of 21 faces in the mean
(half below 15, 1 % above 100, at most 1,200), look-alikes, 20 % near-duplicates, 1 % wrong labels, 1 % unrecognisable.
`python benchmarks/generator.py OUT --faces 4_000_000` writes a store of them.
"""


@dataclass(frozen=True)
class Section:
    """A table of the README: its result, what is measured, how to measure it again, and how it is told."""

    result: str
    title: str
    measured: str
    rerun: str
    table: Callable[[told.Result], list[str]]


SECTIONS = (
    Section(
        "select_speed",
        "Selecting from disk",
        "The whole command against merely reading the same bytes twice into one buffer, in turns, from a cold page "
        "cache (the second pass finds in memory what fits there) and from a warm one. Two passes is what an exact "
        "ratio takes.",
        "select_speed.py --faces 4_000_000",
        told.select_speed,
    ),
    Section(
        "ray_overhead",
        "The same on Ray",
        "A selection by actors of Ray on one machine against the command that does it in threads, in turns, each with "
        "all processes that it starts. A peak is the sum of their memory, shared pages divided (PSS).",
        "ray_overhead.py --faces 1_000_000",
        told.ray_overhead,
    ),
    Section(
        "kernel_speed",
        "Suppression in memory",
        "The compiled kernels, one thread, against the arithmetic that half a Gram matrix of every identity takes.",
        "kernel_speed.py --faces 340_000",
        told.kernel_speed,
    ),
    Section(
        "webface42m",
        "As many faces as WebFace42M, generated and run",
        "The whole command on 42,474,557 generated faces, once each: more than the memory holds, so that both passes "
        "read the disk.",
        "select_speed.py --faces 42_474_557 --turns 1 --caches cold --folder DIR "
        "--out benchmarks/results/webface42m.json",
        told.select_speed,
    ),
    Section(
        "select_confusable",
        "With a search among the centres",
        "The first table again with `--rank confusable`, once.",
        "select_speed.py --faces 4_000_000 --turns 1 --caches cold --rank confusable "
        "--out benchmarks/results/select_confusable.json",
        told.select_speed,
    ),
    Section(
        "centre_search",
        "Searching the centres",
        "The nearest other centres of as many identities as WebFace42M has: what the ranks dataset and confusable ask "
        "for, against the exact search on a sample.",
        "centre_search.py",
        told.centre_search,
    ),
    Section(
        "large_identities",
        "Very large identities",
        "The whole command on the same ordinary faces without and with one very large identity.",
        "large_identities.py",
        told.large_identities,
    ),
    Section(
        "rivals_100k",
        "What a user would pick instead",
        "60 % of the same faces by every method, each a process of its own on one thread. A planted pair is a face and "
        "its near-duplicate (cosine 0.955 to 0.995): broken if at most one stays, lost if none does. Lost faces are "
        "distinct ones of which no copy stays. Cover is the mean cosine of a dropped face to its nearest kept one of "
        "its identity, where any is kept. Foreign methods are in `foreign.py`; those with a threshold and no ratio "
        "have it bisected until the count is within 0.1 %.",
        "rivals_100k.py --semhash-python PYTHON",
        told.rivals_100k,
    ),
    Section(
        "data_loading",
        "Training that waits for faces",
        "The share of its time that `facecore train` spends waiting, and how fast faces are read, decoded, augmented "
        "and put into batches where no network takes them.",
        "data_loading.py",
        told.data_loading,
    ),
    Section(
        "readers_speed",
        "Readers",
        "Images read from each format and decoded, against a bare loop that opens files and decodes them, the same "
        "decoder in as many threads, in turns.",
        "readers_speed.py",
        told.readers_speed,
    ),
    Section(
        "real_faces",
        "Real faces",
        "The same 60 % of real data sets by every rank; t* is the cosine above which a kept face suppresses.",
        "real_faces.py LFW=embeddings/lfw CFP=embeddings/cfp",
        told.real_faces,
    ),
    Section(
        "soak",
        "A long run",
        "What a process holds as it embeds shard after shard of 10 small faces, by a network of two products, and as "
        "another selects from 2,000 again and again: after 100 of them and in the end. One thread each.",
        "soak.py --shards 8_000 --selections 3_000",
        told.soak,
    ),
    Section(
        "ijb_size",
        "Verification of the size of IJB-C",
        "All that comes after the network: the lists, of the form and the numbers of IJB-C's, are read, made-up "
        "embeddings pooled into templates, every pair compared, and TAR told at six FARs. In a process of its own.",
        "ijb_size.py",
        told.ijb_size,
    ),
    Section(
        "quantize_speed",
        "Integer networks",
        "arcface_torch's networks with random weights, on one core: the sizes of their files, the time of a face "
        "against a float file with PReLU written alike, in turns, and a step of fine-tuning.",
        "quantize_speed.py --archs mbf r18 r50 r100 --steps-of mbf r18 --turns 6",
        told.quantize_speed,
    ),
    Section(
        "curves",
        "Accuracy against the fraction of the data",
        "Finished sweeps of `facecore curve`: networks quantized on a fraction of a pool of real faces, by nms or at "
        "random, and verified on others (other pictures; no labels are used). A difference is paired over folds and "
        "seeds, with its 95 % interval. The commit is of the collecting, not of the sweeps.",
        "curves.py LFW=curve-lfw CFP=curve-cfp 'CFP, equal epochs=curve-cfp-epochs'",
        learnt.curves,
    ),
    Section(
        "headline",
        "Training on 60 % of the faces",
        "What is saved where redundancy was planted, and what is left: a small network trained from scratch on CFP, "
        "swollen (as below), for as many epochs on all of its faces and on a part of them, and verified as below. The "
        "paper's figure for WebFace42M is 1.64 times.",
        "headline.py IMAGES --model M --points scratch/swollen, from what pipelines/from_scratch.py left there",
        learnt.headline,
    ),
    Section(
        "which_rank",
        "Which faces teach most",
        "A small network trained from scratch on the faces that each method keeps of a pool, and verified on people "
        "whom it has not: of CFP's 250 people 104 are in LFW (`facecore overlap`), so a test is what is left of the "
        "other set's pairs without them (`pipelines/strangers.py`; of LFW 5,684 of 6,000, of CFP-FF 1,621 of 3,500, "
        "63 % of them of one person). LFW + CFP is CFP with those of LFW who are in none of its first five folds, of "
        "which 2,857 pairs are left to test on. A pool called swollen has bursts planted: for half of its faces three "
        "near-duplicates each, cropped, shifted or encoded again (`pipelines/swell.py`); in long bursts, ten each, as "
        "frames of a video. Pictures are the faces left without planted ones, over seeds in the median. nms:0.9 is nms "
        "with `--min-threshold 0.9`, and is nms where t* is higher; nms:0.9:largest-identities has "
        "`--then largest-identities`, too. Steps of 64 faces: as many as on the whole pool "
        "are equal cost, `keep` times as many are equal epochs. A difference is paired over folds and seeds, with its "
        "95 % interval; of twenty, one is beyond it by chance. Points are added over time, and random faces of some "
        "pools were trained on another machine than what is compared with them: what differs is rounding, as between "
        "threads. The commit is of the collecting, not of the trainings, whose commands are in "
        "[pipelines](../pipelines/README.md#experiments).",
        "which_rank.py --add-to which_rank.json 'CFP, swollen=scratch/cfp' LFW=scratch/lfw, and so on",
        learnt.which_rank,
    ),
    Section(
        "how_few",
        "How few faces will do",
        "The MobileFaceNet quantized on more and more faces of LFW, by two losses and two ways to choose, and verified "
        "on CFP, other pictures (of some of the same people; no labels are used). Of 5,000 faces or fewer nms leaves "
        "nobody two, and ekd compares faces of one person. The commit is of the collecting.",
        "how_few.py FOLDER, from what pipelines/small_data.py left there",
        learnt.how_few,
    ),
    Section(
        "proxies",
        "How small a proxy will do",
        "What is kept of CFP, swollen, by the embeddings of small networks that learnt from a share of its identities, "
        "against what the MobileFaceNet keeps; then a network trained from scratch on it.",
        "proxies.py proxies/agreement.json 0.1=scratch/0.1 0.3=scratch/0.3 1=scratch/1 teacher=scratch/cfp",
        learnt.proxies,
    ),
    Section(
        "fairness",
        "Whom a selection drops",
        "The share kept of groups of real faces: by faces per identity, pose (CFP's frontal and profile faces), the "
        "length of the embedding before it is normalised, which is low for poor pictures, and the brightness of the "
        "middle of the picture; quarters, the lowest first.",
        "fairness.py LFW=subset.parquet,lfw/images CFP=subset.parquet,cfp/images,frontal,profile",
        learnt.fairness,
    ),
    Section(
        "sources",
        "Real and synthetic faces",
        "A network quantized on real faces, and on faces of nobody: how many points of accuracy each loses on real "
        "pairs, after calibration and after fine-tuning. Eigenfaces are by a generator that `pipelines/eigenfaces.py` "
        "learnt from 4,000 of the data set's faces (CFP has 3,500); statistics are what `--from-model` made of `tiny`, "
        "which had learnt LFW from scratch. A source is not tested on its own faces, nor on those it was learnt from. "
        "Times as fast: one face, the float file against the integer one, in turns; seconds apart, others using the "
        "machine, they vary.",
        "sources.py LFW=lfw/images 'LFW eigenfaces=synthetic-lfw' CFP=cfp/images parametric=synthetic --model M "
        "--verify LFW=pairs.txt,lfw/images --verify CFP-FP=pairs_fp.csv,cfp/images, and so on",
        learnt.sources,
    ),
)


def readme(results: Path) -> str:
    """The whole of README.md, from a folder of results; one that is missing is said to be."""
    parts = [HEAD]
    for section in SECTIONS:
        path = results / f"{section.result}.json"
        lines = [f"## {section.title}", "", section.measured, "", f"`python benchmarks/{section.rerun}`", ""]
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            lines += [*section.table(result), "", _made_with(result["made_with"])]
        else:
            lines.append("No figures yet.")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _made_with(made: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(made["versions"].items()))
    commit, _, dirty = made["commit"].partition("-")
    return f"Commit {commit[:12]}{' with changes' if dirty else ''}; {made['machine']}; {versions}."


def main() -> None:
    """Write README.md beside this file, and draw its pictures."""
    ranks = json.loads((RESULTS / "which_rank.json").read_text(encoding="utf-8"))
    plots.which_rank(ranks, RESULTS / "which_rank.png")
    plots.above_chance(ranks, RESULTS / "above_chance.png")
    Path(__file__).with_name("README.md").write_text(readme(RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
