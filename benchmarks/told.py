"""How each result of a benchmark is told: the lines of a Markdown table, and what is said under it."""

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]

WIDTHS = ("w8a8", "w4a4")  # of a training step


def select_speed(result: Result) -> list[str]:
    """Whole commands against reading."""
    rows = []
    for state, one in result["caches"].items():
        for name, title in (("nms", f"facecore nms, {state}"), ("reading_twice", f"reading twice, {state}")):
            rows.append([title, *_taken(one[name]), f"{one['wall_over_reading_twice']:.2f}" if name == "nms" else ""])
    exact = all(one["exact"] for one in result["caches"].values())
    return [
        *table(["", "wall, s", "cpu, s", "peak, GB", "wall over reading twice"], rows),
        "",
        f"{result['faces']:,} faces of {result['identities']:,} identities, rank {result['rank']}; "
        f"{one['kept']:,} kept, {'exactly' if exact else 'NOT exactly'} what was asked for; "
        f"{one['thousand_faces_per_cpu_second']:,.0f} thousand faces per cpu-second, all in all. "
        f"The same command on 100 faces, start and all, takes {result['start_seconds']:.2f} s.",
    ]


def ray_overhead(result: Result) -> list[str]:
    """A selection on Ray against the command."""
    titles = {"nms": "facecore nms", "ray": "on Ray"}
    rows = [
        [f"{title}, {faces} faces", *_taken(result[size][name])]
        for size, faces in (("all", f"{result['faces']:,}"), ("start", "100"))
        for name, title in titles.items()
    ]
    same = all(result[size]["same_bytes"] for size in ("all", "start"))
    return [
        *table(["", "wall, s", "cpu, s", "peak, GB"], rows),
        "",
        f"{result['faces']:,} faces of {result['identities']:,} identities in {result['shards']} shards, "
        f"{result['actors']} actors of Ray {result['ray']}; "
        f"the subsets are {'the same, byte for byte' if same else 'NOT the same'}.",
    ]


def kernel_speed(result: Result) -> list[str]:
    """Kernels against arithmetic."""
    names = {"profile": "count at every threshold", "cut": "cut at one threshold"}
    rows = [
        [title, f"{result[name]['thousand_faces_per_cpu_second']:,.0f}", f"{result[name]['over_limit']:.2f}"]
        for name, title in names.items()
    ]
    rows.append(["the limit", f"{result['limit_thousand_faces_per_cpu_second']:,.0f}", "1"])
    return [
        *table(["", "thousand faces per cpu-second", "time over the limit"], rows),
        "",
        f"{result['faces']:,} faces of {result['identities']:,} identities; numpy multiplies large float32 matrices at "
        f"{result['sgemm_gigaflops']:.0f} GF per cpu-second.",
    ]


def centre_search(result: Result) -> list[str]:
    """One search."""
    rows = [
        ["centres", f"{result['centres']:,}"],
        ["how", result["how"]],
        ["building, cpu, s", f"{result['build_cpu_seconds']:.1f}"],
        ["queries per cpu-second", f"{result['queries_per_cpu_second']:,.0f}"],
        ["all centres as queries, cpu, s (from the sample)", f"{result['all_cpu_seconds']:,.0f}"],
        ["peak, GB", f"{result['peak_gb']:.2f}"],
        [f"of the {result['nearest']} nearest are found", f"{result['recall']:.3f}"],
        [f"Spearman, mean cosine to the {result['nearest']} nearest, against exact", f"{result['spearman']:.3f}"],
    ]
    return [*table(["", ""], rows), "", f"A sample of {result['queries']:,} centres was asked for."]


def large_identities(result: Result) -> list[str]:
    """Ordinary faces with and without a large identity."""
    rows = [[f"{result['faces']:,} ordinary faces", *_taken(result["ordinary"]), ""]]
    for one in result["with_large"]:
        rows.append([f"and one identity of {one['size']:,}", *_taken(one), f"{one['gram_gb']:.1f}"])
    return table(["", "wall, s", "cpu, s", "peak, GB", "its Gram matrix would take, GB"], rows)


def rivals_100k(result: Result) -> list[str]:
    """All methods on the planted set."""
    head = ["", "wall, s", "cpu, s", "peak, GB", "kept", "pairs broken", "pairs lost", "faces lost", "identities lost"]
    rows = []
    for one in result["methods"]:
        counts = [f"{one[of]:,}" for of in ("kept", "broken", "lost_pairs", "lost_faces", "lost_identities")]
        same = {True: "yes", False: "no", None: "?"}[one["reproducible"]]
        ours = one["name"].startswith(("nms", "select"))
        rows.append(
            [f"`facecore {one['name']}`" if ours else one["name"], *_taken(one), *counts, f"{one['cover']:.3f}", same]
        )
    skipped = [f"{name} was not run: {why}." for name, why in result["skipped"].items()]
    return [
        *table([*head, "cover", "reproducible"], rows),
        "",
        f"{result['faces']:,} faces of {result['identities']:,} identities, {result['pairs']:,} of them "
        f"near-duplicates; {result['asked']:,} were asked for. {' '.join(skipped)}".rstrip(),
    ]


def real_faces(result: Result) -> list[str]:
    """Ranks on real faces."""
    rows = []
    for of in result["sets"]:
        for one in of["ranks"]:
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in one["dropped"].items())
            faces = f"{one['kept']:,} of {one['faces']:,}"
            identities = f"{one['identities_kept']:,} of {one['identities']:,}"
            cells = [of["name"], one["rank"], faces, identities, f"{one['max_cosine']:.4f}", dropped]
            rows.append([*cells, f"{one['wall_seconds']:.1f}"])
    return table(["set", "rank", "faces kept", "identities kept", "t*", "dropped", "wall, s"], rows)


def quantize_speed(result: Result) -> list[str]:
    """Files of networks, then training steps."""
    rows = []
    for one in result["networks"]:
        size, milliseconds = one["bytes"], one["latency_ms"]
        shares = [f"{size[name] / size['float']:.3f}" for name in ("w8a8", "w6a6 packed", "w4a4 packed")]
        faster = [f"{of['float'] / of['w8a8']:.1f}" for of in milliseconds.values()]
        taken = f"{milliseconds['batch_1']['float']:.1f} to {milliseconds['batch_1']['w8a8']:.1f}"
        cells = [one["arch"], f"{size['float'] / 1e6:.1f}", *shares, f"{100 * one['integer_share']:.1f} %", taken]
        rows.append([*cells, *faster])
    head = ["", "float, MB", "w8a8 / float", "w6a6 packed", "w4a4 packed", "integer multiply-adds", "ms a face"]
    steps = [
        [
            one["arch"],
            str(one["batch"]),
            f"{one['float_seconds']:.2f}",
            *(f"{one['over_float'][bits]:.2f}" for bits in WIDTHS),
        ]
        for one in result["training"]
    ]
    return [
        *table([*head, "times as fast", "in batches of 64"], rows),
        "",
        "A training step of the same networks, all quantizers on, against one in floats:",
        "",
        *table(["", "faces a step", "float, cpu, s", *(f"{of} / float" for of in WIDTHS)], steps),
    ]


def data_loading(result: Result) -> list[str]:
    """How long training waits."""
    rows = [
        [
            one["source"],
            f"{one['arch']}, {one['augment']}" if one["augment"] else one["arch"],
            f"{one['faces_per_second']:,.0f}",
            f"{one['waiting_share']:.1%}",
            f"{one['loader_faces_per_second']:,.0f}",
        ]
        for one in result["runs"]
    ]
    return [
        *table(["", "network", "faces trained on in a second", "of it waiting", "loaded alone, in a second"], rows),
        "",
        f"{result['faces']:,} faces of {result['identities']:,} identities, {result['workers']} threads that load; "
        f"batches of {result['batch_size']}.",
    ]


def readers_speed(result: Result) -> list[str]:
    """Readers against a bare loop."""
    rows = []
    for name in result["in_order"]:
        both = [result[how][name] for how in ("in_order", "shuffled")]
        cells = [
            [f"{one['images_per_second']:,.0f}", f"{one['over_bare']:.2f}", f"{one['cpu_over_bare']:.2f}"]
            for one in both
        ]
        rows.append([name, *cells[0], *cells[1]])
    head = ["images a second", "over the bare loop", "the same of cpu-seconds"]
    return [
        *table(["", *head, "shuffled: images a second", *head[1:]], rows),
        "",
        f"{result['faces']:,} faces of 112 x 112, {result['workers']} threads.",
    ]


def soak(result: Result) -> list[str]:
    """What two processes hold, early and late."""
    rows = []
    for name, unit in (("embed", "shards"), ("nms", "selections")):
        of = result[name]
        for at in ("first", "last"):
            counts = [str(of[at][held]) for held in ("files", "threads", "processes")]
            rows.append([f"{name}, after {of[at]['done']:,} {unit}", f"{of[at]['memory_mb']:.1f}", *counts])
    means = "; ".join(
        f"{name} {result[name]['memory_mb_first_half']:.1f} and {result[name]['memory_mb_second_half']:.1f}"
        for name in ("embed", "nms")
    )
    return [
        *table(["", "resident, MB", "open files", "threads", "processes"], rows),
        "",
        f"{result['faces']:,} faces. Mean resident memory in the first and the second half, in MB: {means}.",
    ]


def ijb_size(result: Result) -> list[str]:
    """Seconds by stage, and the whole process."""
    whole = result["whole"]
    rows = [[of["stage"], f"{of['seconds']:.2f}", "", ""] for of in result["stages"]]
    return [
        *table(["", "wall, s", "cpu, s", "peak, GB"], [*rows, ["the whole process", *_taken(whole)]]),
        "",
        f"{result['pairs']:,} pairs of {result['templates']:,} templates of {result['images']:,} images.",
    ]


def _taken(medians: Mapping[str, float]) -> list[str]:
    return [f"{medians[name]:.2f}" for name in ("wall_seconds", "cpu_seconds", "peak_gb")]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def mean(value: float, half: float | None, *, signed: bool) -> str:
    """A mean and half the width of its interval; a difference is said to be noise if that holds 0."""
    spread = "" if half is None else f" +- {half:.2f}"
    noise = ", noise" if signed and (half is None or abs(value) <= half) else ""
    return f"{value:{'+' if signed else ''}.2f}{spread}{noise}"
