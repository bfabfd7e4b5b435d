"""What synthetic faces cost against real ones: the same network quantized on each, and verified on real pairs.

python benchmarks/sources.py LFW=lfw/images parametric=synthetic --model M --verify CFP-FP=pairs_fp.csv,cfp/images ...

Each argument is a name and a data set; a protocol whose name begins with the first word of that is left out, since
nobody is tested on what was trained on. All take the same number of steps. Networks stay in --folder: a finished one is
not made again, and one that was killed goes on.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from PIL import Image
from quantize_speed import SIZE, settled
from record import arguments, folder_for, write_result

from facecore.accuracy import Check, quantize_and_verify
from facecore.models import to_onnx
from facecore.provenance import sha256_of_file
from facecore.quantize import Bits, QuantizeOptions
from facecore.quantize.artefacts import REPORT
from facecore.readers import open_dataset


def measure(name: str, source: Path, bits: str, given: Namespace, folder: Path) -> dict[str, Any]:
    """One source at one number of bits, from the report of its network."""
    checks = [check for check in map(Check.parse, given.verify) if not check.name.startswith(name.split()[0])]
    options = QuantizeOptions(bits=Bits.parse(bits), steps=given.steps)
    report = json.loads((folder / REPORT).read_text(encoding="utf-8")) if (folder / REPORT).is_file() else {}
    if not is_of(report, given.model, options, checks):
        report = quantize_and_verify(open_dataset(source), given.model, folder, options, checks, overwrite=True)
    return {
        "source": name,
        "bits": bits,
        "faces": report["faces"],
        "bytes": report["bytes"].get("packed", report["bytes"]["quantized"]),
        "times_as_fast": report["latency_ms"]["batch_1"]["float"] / report["latency_ms"]["batch_1"]["quantized"],
        "cosine_on_its_own_faces": report["cosine_to_teacher"]["fine_tuned"]["mean"],
        "accuracy": {
            protocol: {stage: found[stage]["accuracy"] for stage in ("float", "calibrated", "fine_tuned")}
            for protocol, found in report["accuracy"].items()
        },
    }


def is_of(report: Mapping[str, Any], model: Path, options: QuantizeOptions, checks: Sequence[Check]) -> bool:
    """Whether a report is of this network, quantized and verified so."""
    return bool(report) and (
        report["inputs"]["model"] == sha256_of_file(model)
        and (report["bits"], report["schedule"]["steps"]) == (str(options.bits), options.steps)
        and {check.name for check in checks} <= report.get("accuracy", {}).keys()
    )


def example(folder: Path) -> list[str]:
    """A network, two data sets and pairs of plain colours, for tests of this script, as arguments."""
    for number in range(12):
        path = folder / "grey" / f"p{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), (20 * number, 10 * number, 255 - 20 * number)).save(path)
    onnx.save(to_onnx(settled("smallest"), SIZE), folder / "network.onnx")
    rows = [
        f"p{n % 3}/{n:02d}.png,p{m % 3}/{m:02d}.png,{int(n % 3 == m % 3)},{n % 2}"
        for n in range(6)
        for m in range(6, 12)
    ]
    (folder / "pairs.csv").write_text("\n".join(["left,right,same,fold", *rows]) + "\n", encoding="utf-8")
    pairs = f"colours={folder / 'pairs.csv'},{folder / 'grey'}"
    return [f"grey={folder / 'grey'}", "--model", str(folder / "network.onnx"), "--verify", pairs, "--steps", "1"]


def options() -> ArgumentParser:
    """The options of this benchmark."""
    parser = arguments(__doc__, "sources", turns=1)
    parser.add_argument("sources", nargs="*", metavar="NAME=DATASET")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--verify", action="append", metavar="NAME=PAIRS[,IMAGES]")
    parser.add_argument("--bits", nargs="*", default=["w8a8", "w6a6", "w4a4"])
    parser.add_argument("--steps", type=int, default=60)
    return parser


def main() -> None:
    """Measure and write the result."""
    given = options().parse_args()
    with folder_for(given.folder) as folder:
        if given.smoke:
            given = options().parse_args(["--out", str(given.out), *example(folder)])
        sources = [text.split("=", 1) for text in given.sources]
        networks = [
            measure(name, Path(source), bits, given, folder / f"{name}-{bits}")
            for bits in given.bits
            for name, source in sources
        ]
        result = {"steps": given.steps, "float_bytes": given.model.stat().st_size, "networks": networks}
    write_result(given.out, result)


if __name__ == "__main__":
    main()
