"""Quantize and verify: what a network's files can do before, in the middle of, and after quantization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecore.errors import OptionError
from facecore.images import Preprocess
from facecore.models import load_backbone
from facecore.quantize import QuantizeOptions, quantize
from facecore.quantize.artefacts import CALIBRATED, MODEL
from facecore.readers import Dataset
from facecore.verify import PairProtocol, VerifyOptions, check_pairs, open_protocol, verify


@dataclass(frozen=True)
class Check:
    """A protocol to verify on, by the name that the report gives it."""

    name: str
    pairs: Path
    images: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Check":
        """What NAME=PAIRS or NAME=PAIRS,IMAGES says; raises OptionError on any other text.

        As paths may have commas, PAIRS goes as far as it is a file, or else to the first comma.
        """
        name, _, paths = text.partition("=")
        parts = paths.split(",")
        splits = [(",".join(parts[:n]), ",".join(parts[n:])) for n in range(len(parts), 0, -1)]
        pairs, images = next((split for split in splits if Path(split[0]).is_file()), splits[-1])
        if not name or not pairs:
            raise OptionError(f"a protocol is written as NAME=PAIRS or NAME=PAIRS,IMAGES; got {text!r}")
        return cls(name, Path(pairs), Path(images) if images else None)

    def open(self) -> PairProtocol:
        """The pairs, if one can verify on them; raises what `open_protocol` and `check_pairs` do, before any work."""
        protocol = open_protocol(self.pairs, self.images)
        check_pairs(protocol.same, protocol.fold, str(self.pairs))
        return protocol


def quantize_and_verify(
    dataset: Dataset,
    model: Path,
    out: Path,
    options: QuantizeOptions,
    checks: Sequence[Check],
    *,
    arch: str | None = None,
    overwrite: bool,
) -> dict[str, Any]:
    """`quantize`, with the accuracy on each protocol in the report: full precision, calibrated, and fine-tuned.

    All are measured on files: the one given and those written. Raises OptionError if two protocols have one name, and
    what `quantize` and `verify` raise; when `verify` does, the network is written, and another run goes on there.
    """
    names = [check.name for check in checks]
    if len(set(names)) < len(names):
        raise OptionError(f"protocols need names of their own; got {', '.join(names)}")
    protocols = {check.name: check.open() for check in checks}  # before the work

    def measure(report: Mapping[str, Any]) -> dict[str, Any]:
        networks = {
            "float": load_backbone(model, arch=arch),
            "calibrated": load_backbone(out / CALIBRATED),
            "fine_tuned": load_backbone(out / MODEL),
        }
        how = VerifyOptions(preprocess=Preprocess(**report["preprocess"]), workers=options.workers)
        accuracy = {
            name: {stage: verify(network, protocol, how).to_json() for stage, network in networks.items()}
            for name, protocol in protocols.items()
        }
        return {"accuracy": accuracy} if accuracy else {}

    return quantize(dataset, model, out, options, arch=arch, overwrite=overwrite, measure=measure)
