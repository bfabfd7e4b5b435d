"""How each result about what networks learn is told: the lines of a Markdown table, and what is said under it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import above_chance
from told import Result, mean, table

from facecore.curve.options import ALL
from facecore.curve.pools import RANDOM

PER_IDENTITY = "random-per-identity"  # in SELECTORS: the fair way to thin out a data set blindly
DECIDES = 0.6  # the fraction at which ranks are compared: the paper's
PUBLISHED = {  # points that QuantFace's MobileFaceNet loses with real faces (arXiv 2206.10526, its table of results)
    "w8a8": {"LFW": 0.12, "CFP-FP": 0.75},
    "w6a6": {"LFW": 0.39, "CFP-FP": 3.95},
}


def sources(result: Result) -> list[str]:
    """Points lost to each source beside the published ones, sizes and times."""
    protocols = list(dict.fromkeys(name for one in result["networks"] for name in one["accuracy"]))
    rows = []
    for bits in dict.fromkeys(one["bits"] for one in result["networks"]):
        for one in result["networks"]:
            if one["bits"] == bits:
                lost = [cell for name in protocols for cell in _lost(one["accuracy"].get(name))]
                rows.append(
                    [
                        bits,
                        one["source"],
                        f"{one['faces']:,}",
                        *lost,
                        f"{one['bytes'] / 1e6:.2f}",
                        f"{one['times_as_fast']:.1f}",
                    ]
                )
        if bits in PUBLISHED:
            published = {name: f"{lost:.2f}" for name, lost in PUBLISHED[bits].items()}
            cells = [cell for name in protocols for cell in ("", published.get(name, ""))]
            rows.append(
                [bits, "QuantFace, as published", "5,822,653", *cells, {"w8a8": "1.10", "w6a6": "0.79"}[bits], ""]
            )
    head = [f"{name}, {of}" for name in protocols for of in ("calibrated", "fine-tuned")]
    before = {name: 100 * of["float"] for one in result["networks"] for name, of in one["accuracy"].items()}
    told = " and ".join(f"{before[name]:.2f} % on {name}" for name in protocols)
    return [
        *table(["", "source", "faces", *head, "MB", "times as fast"], rows),
        "",
        f"Points lost; {result['steps']:,} steps each. The float network has {told}, and "
        f"{result['float_bytes'] / 1e6:.2f} MB.",
        "QuantFace's has 99.47 % on LFW and 91.59 % on CFP-FP, 4.21 MB, and was trained for 11,372 steps.",
    ]


def _lost(found: Mapping[str, float] | None) -> list[str]:
    if found is None:
        return ["", ""]
    return [f"{100 * (found['float'] - found[stage]):.2f}" for stage in ("calibrated", "fine_tuned")]


def curves(result: Result) -> list[str]:
    """Points lost at every fraction, by method, and what is above random."""
    rows, told = [], []
    for one in result["pools"]:
        above = {(of["protocol"], float(of["fraction"]), of["method"]): of for of in one["differences"]}
        for of in one["points"]:
            difference = above.get((of["protocol"], of["fraction"], of["method"]))
            cells = [one["pool"], of["protocol"], f"{of['fraction']:g}", f"{of['faces']:,}", of["method"]]
            figures = [str(of["seeds"]), f"{100 * of['accuracy']:.2f}", f"{of['points_lost']:.2f}"]
            rows.append([*cells, *figures, _difference(difference) if difference else ""])
        references = ", ".join(f"{of['method']} {100 * of['accuracy']:.2f} %" for of in one["references"])
        cost = f"{one['steps']:,} steps" if one["budget"] == "steps" else f"{one['epochs']:g} epochs of its own faces"
        told.append(f"Pool {one['pool']}: {one['bits']}, {cost} at every point; {references}.")
    head = ["pool", "tested on", "fraction", "faces", "method", "seeds", "accuracy, %", "points lost", "above random"]
    return [*table(head, rows), "", *told]


def which_rank(result: Result) -> list[str]:
    """What is learnt from scratch: every pool at the fraction that decides, then all of it, best first."""
    rows, told = [], []
    for pool in result["pools"]:
        for of in pool["rows"]:
            counts = [f"{of['keep']:g}", f"{of['steps']:,}", f"{of['faces']:,}", _pictures(of)]
            accuracy = mean(of["accuracy"], of["accuracy_half"], signed=False)
            above = [_above(of, f"above_{other}") for other in ("random", "whole_epochs", "whole_steps")]
            rows.append([pool["pool"], *counts, of["method"], _t(of), str(of["seeds"]), accuracy, *above])
        told.append(f"Pool {pool['pool']}: tested on {pool['protocol']}{_bare(pool['rows'])}.")
    head = ["pool", "keep", "steps", "faces", "pictures", "method", "t*", "seeds", "accuracy, %"]
    whole = [f"above the whole pool, equal {cost}" for cost in ("epochs", "steps")]
    by_threshold = (
        "The mean over pools has the interval that it would have if these were independent; LFW and CFP are each in "
        "several. nms above random faces by its t*: the mean over places, which are fractions of pools, with such an "
        "interval; those of one pool are not quite independent. The bounds were chosen when the figures were there."
    )
    return [
        *_decides(result),
        "",
        by_threshold,
        "",
        *above_chance.by_threshold(result),
        "",
        *table([*head, "above random", *whole], rows),
        "",
        *told,
    ]


def _bare(rows: Iterable[Mapping[str, Any]]) -> str:
    """Where identities may lose all their faces, because there are too many for a face of each."""
    bare = sorted({of["keep"] for of in rows if of["min_per_identity"] == 0}, reverse=True)
    return f"; at {' and '.join(f'{keep:g}' for keep in bare)} identities may lose all their faces" if bare else ""


def _decides(result: Result) -> list[str]:
    """A column a pool, for its longest training on DECIDES of the faces: what random ones teach, and methods add."""
    places = []
    for pool in result["pools"]:
        steps = above_chance.longest([of for of in pool["rows"] if of["keep"] == DECIDES])
        at = {of["method"]: of for of in pool["rows"] if of["keep"] in (DECIDES, 1) and of["steps"] == steps}
        if RANDOM in at:
            places.append((pool["pool"], at))
    learnt = [
        [f"{name}, accuracy, %", *(_accuracy(at.get(method)) for _, at in places)]
        for name, method in (("all faces", ALL), (f"{DECIDES:g} of them at {RANDOM}", RANDOM))
    ]
    methods = sorted({method for _, at in places for method, of in at.items() if "above_random" in of})
    rows = [
        ["steps", *(f"{at[RANDOM]['steps']:,}" for _, at in places)],
        *learnt,
        ["t* of nms", *(_t(at.get("nms", {})) for _, at in places)],
        *([f"pictures, {of}", *(_pictures(at.get(of, {})) for _, at in places)] for of in ("nms", RANDOM)),
        *(
            [f"{method} above {RANDOM}", *_over_pools([at.get(method, {}) for _, at in places], "above_random")]
            for method in methods
        ),
        *(
            [f"{method} above nms", *_over_pools([at.get(method, {}) for _, at in places], "above_nms")]
            for method in methods
            if method.startswith("nms:")
        ),
        *(
            [f"what is above {other}, beyond noise", *(_beyond_noise(at.values(), other) for _, at in places)]
            for other in (RANDOM, PER_IDENTITY)
        ),
    ]
    head = ["", *(name for name, _ in places), "mean over pools"]
    return table(head, [[*row, *[""] * (len(head) - len(row))] for row in rows])


def _over_pools(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """A difference in every pool, and its mean over them where it was measured in several."""
    measured = sum(of.get(name) is not None for of in rows)
    return [*(_above(of, name) for of in rows), above_chance.over_places(rows, name) if measured > 1 else ""]


def _beyond_noise(rows: Iterable[Mapping[str, Any]], other: str) -> str:
    """The methods that are above another; nothing where nothing was compared with it."""
    name = f"above_{other.replace('-', '_')}"
    compared = [of for of in rows if of.get(f"{name}_half")]
    better = sorted(of["method"] for of in compared if of[name] > of[f"{name}_half"])
    return ", ".join(better) or "nothing" if compared else ""


def _pictures(of: Mapping[str, Any]) -> str:
    """How many faces are left without near-duplicates that were planted."""
    return "" if of.get("pictures") is None else f"{of['pictures']:,.0f}"


def _t(of: Mapping[str, Any]) -> str:
    """The cosine from which on faces were suppressed, of methods that have one."""
    return "" if of.get("max_cosine") is None else f"{of['max_cosine']:.2f}"


def _accuracy(of: Mapping[str, Any] | None) -> str:
    return "" if of is None else mean(of["accuracy"], of["accuracy_half"], signed=False)


def _above(of: Mapping[str, Any], name: str) -> str:
    """A difference in points with its 95 % interval, or nothing where it was not measured."""
    return "" if of.get(name) is None else mean(of[name], of[f"{name}_half"], signed=True)


def how_few(result: Result) -> list[str]:
    """Points lost by the number of faces, a column a loss and a way to choose."""
    ways = list(dict.fromkeys((of["loss"], of["method"]) for of in result["points"]))
    lost = {(of["bits"], of["faces"], of["loss"], of["method"]): of for of in result["points"]}
    rows = []
    for bits, faces in sorted({(of["bits"], of["faces"]) for of in result["points"]}, key=lambda at: (at[0], at[1])):
        cells = [lost.get((bits, faces, *way)) for way in ways]
        rows.append([bits, f"{faces:,}", *("" if of is None else _lost_over_seeds(of) for of in cells)])
    heads = [f"{loss}, {method}" for loss, method in ways]
    return [
        *table(["", "faces", *heads], rows),
        "",
        f"Points of accuracy lost on {result['protocol']}, {result['steps']:,} steps each; the mean of as many seeds "
        "as stand in brackets, or one.",
    ]


def _lost_over_seeds(of: Mapping[str, Any]) -> str:
    return f"{of['points_lost']:.2f}" + (f" ({of['seeds']})" if of["seeds"] > 1 else "")


def proxies(result: Result) -> list[str]:
    """What proxies of a share keep, and what is learnt from it."""
    rows = []
    for of in result["rows"]:
        accuracy = "" if of["accuracy"] is None else mean(of["accuracy"], of["accuracy_half"], signed=False)
        agree = "" if of["agree"] is None else f"{100 * of['agree']:.1f}"
        rows.append([of["proxy"], of["method"], agree, str(of["seeds"]), accuracy])
    head = ["identities the proxy learnt from", "method", "kept as by the teacher, %", "seeds", "accuracy, %"]
    return [
        *table(head, rows),
        "",
        f"{result['faces_in_all']:,} faces, keep {result['keep']:g}: of two draws that know nothing of each other "
        f"{100 * result['keep']:.0f} % agree. Tested on {result['protocol']}.",
    ]


def headline(result: Result) -> list[str]:
    """Accuracy and time at a fraction, as measured, then what longer trainings would save."""
    seconds = result["seconds"]
    rows = [["the whole pool", f"{result['faces_in_all']:,}", f"{seconds['train_whole']:.1f}", "", "", "100"]]
    for of in result["methods"]:
        costs = (0, 0 if of["method"].startswith(RANDOM) else result["selection"])  # to draw faces takes no embeddings
        saved = [f"{seconds['train_whole'] / (seconds['train_part'] + more):.2f}" for more in costs]
        rows.append(
            [of["method"], f"{result['kept']:,}", f"{seconds['train_part']:.1f}", *saved, f"{of['relative']:.1f}"]
        )
    longer = [
        [of["network"], str(of["epochs"]), of["proxy"], f"{of['not_counted']:.2f}", f"{of['counted']:.2f}"]
        for of in result["longer"]
    ]
    taken = ", ".join(f"{name.replace('_', ' ')} {value:.1f} s" for name, value in seconds.items())
    return [
        *table(["", "faces", "training, s", "times as fast", "selection counted", "accuracy, % of the whole's"], rows),
        "",
        f"Whole processes: {taken}.",
        "",
        "From the same costs a face, computed, not run; counted are embedding and nms, not the training of a proxy:",
        "",
        *table(["network trained", "epochs", "proxy", "times as fast", "selection counted"], longer),
    ]


def fairness(result: Result) -> list[str]:
    """The share kept of every group, a column a subset."""
    subsets = result["subsets"]
    names = list(dict.fromkeys(of["group"] for one in subsets for of in one["groups"]))
    shares = [{of["group"]: f"{100 * of['kept']:.1f}" for of in one["groups"]} for one in subsets]
    rows = [[name, *(share.get(name, "") for share in shares)] for name in names]
    for part in subsets[0]["identities_below"]:
        counts = [f"{one['identities_below'][part]:,} of {one['identities']:,}" for one in subsets]
        rows.append([f"identities that keep under {part}", *counts])
    heads = [f"{one['pool']}, {_way(one)}" for one in subsets]
    return [*table(["% kept of", *heads], rows)]


def _way(of: Mapping[str, Any]) -> str:
    """How a subset was chosen, in a few words."""
    floor = f", min-share {of['min_share']:g}" if of["min_share"] else ""
    return f"{of['method']} {of['rank'] or ''}".strip() + f" {of['keep']:g}{floor}"


def _difference(of: Mapping[str, str]) -> str:
    points, half = float(of["points_above_random"]), float(of["half_interval"])
    return f"{points:+.2f} +- {half:.2f}{', noise' if of['noise'] == 'true' else ''}"
