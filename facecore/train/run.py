"""The training stage: a data set in, a network, its classifier and a report out."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from facecore.checkpoint import Checkpoint
from facecore.errors import ModelError
from facecore.models import Backbone
from facecore.progress import progress
from facecore.provenance import (
    Provenance,
    canonical_json,
    sha256_of,
    sha256_of_file,
    write_text_whole,
)
from facecore.readers import Dataset
from facecore.train.artefacts import Live, write_artefacts
from facecore.train.folder import BEST, CHECKPOINT, LOG, REPORT, check_out
from facecore.train.loading import Batch, Loader
from facecore.train.log import Log
from facecore.train.loop import Learnt, Trainer, precision
from facecore.train.networks import new_network
from facecore.train.options import TrainOptions
from facecore.train.sampling import Plan, Roster, check_batch
from facecore.train.world import World, processes

WITHOUT_EFFECT = ("workers", "max_rejected")  # on a network that is trained to the end
LAST_STEPS = 20  # whose mean loss is reported: one batch says little


@dataclass(frozen=True)
class Measure:
    """What a network is measured by at every checkpoint."""

    of: Callable[[Backbone], Mapping[str, Any]]  # what it finds has an `accuracy`, from 0 to 1
    sha256: str  # of the pairs: accuracies on others are not to be compared


def train(
    dataset: Dataset,
    out: Path,
    options: TrainOptions,
    *,
    init: Path | None = None,
    measures: Mapping[str, Measure] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a network to tell the identities of a data set apart; write it, its head, a log and a report into `out`.

    A run that was killed goes on from its last checkpoint, to the same losses. The network of the checkpoint at which
    the first of `measures` found the highest accuracy is kept; without one, the last. Returns the report.
    Raises DataError if there are fewer than two identities, faces cannot be read or `check_out` refuses `out`;
    ModelError if `init` is of another network or the loss leaves the numbers; OptionError if processes do not divide
    the batch.
    """
    with processes() as world:
        run = _Run(dataset, out, options, world, init=init, measures=measures or {}, overwrite=overwrite)
        run.begin()
        run.learn()
        return world.told(run.finish() if world.first else {})


@dataclass
class Tally:
    """How far a run is, as its checkpoints have it."""

    step: int = 0  # how many were taken
    first_loss: float = 0.0
    last_losses: list[float] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)  # what was measured after which step
    work_seconds: float = 0.0  # of the network
    wait_seconds: float = 0.0  # for faces, between two steps
    measure_seconds: float = 0.0

    def add(self, loss: float) -> None:
        """Count a step."""
        self.first_loss = loss if self.step == 0 else self.first_loss
        self.last_losses = [*self.last_losses, loss][-LAST_STEPS:]
        self.step += 1


class _Run:
    """One training: who is trained on, the network, and how far it is."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        options: TrainOptions,
        world: World,
        *,
        init: Path | None,
        measures: Mapping[str, Measure],
        overwrite: bool,
    ) -> None:
        check_batch(options.batch_size, world.size)
        check_out(out, overwrite=overwrite)  # before all that takes long
        self._dataset, self._out, self._options, self._world, self._measures = dataset, out, options, world, measures
        self._roster = Roster(dataset, identities=options.identities, faces=options.faces, seed=options.seed)
        self._plan = Plan(
            self._roster.classes, sampling=options.sampling, batch_size=options.batch_size, seed=options.seed
        )
        self._loader = Loader(dataset, self._roster, self._plan, options, rank=world.rank, processes=world.size)
        an_epoch = self._plan.epoch_faces / options.batch_size
        self._steps = options.steps or max(1, round(options.epochs * an_epoch))
        self._every = options.checkpoint_every or max(1, round(an_epoch))
        network = new_network(options.arch, seed=options.seed, init=init)
        self._parameters = sum(values.numel() for values in network.parameters())
        self._trainer = Trainer(network, len(self._roster.names), options, self._steps, world)
        self._inputs = {"dataset": dataset.sha256, **({"init": sha256_of_file(init)} if init else {})}
        self._checkpoint = Checkpoint(out / CHECKPOINT, self._fingerprint(), overwrite=overwrite)
        self._best = Checkpoint(out / BEST, self._fingerprint(), overwrite=overwrite)
        self._done = Tally()

    def begin(self) -> None:
        """Start, or go on from a checkpoint; from here on there is one."""
        saved = self._checkpoint.load()
        if saved is not None:
            self._trainer.restore(saved)
            self._done, self._loader.rejected = Tally(**saved["progress"]), saved["rejected"]
        self._world.wait()  # until all have looked
        if saved is None and self._world.first:
            self._best.remove()  # of whatever run it was
        if saved is None:
            self._save()

    def learn(self) -> None:
        """Take all steps that are left, with a checkpoint every so often."""
        done = self._done
        with (
            Log(self._out / LOG, done.step) if self._world.first else nullcontext() as log,
            progress(self._steps, "train", "steps") as bar,
        ):
            bar.update(done.step)
            for batch in self._timed(self._loader.batches(done.step, self._steps)):
                learnt = self._trainer.learn(batch)
                if not learnt.finite:
                    raise self._diverged(done.step + 1, f"the loss is {learnt.loss} and its gradient {learnt.gradient}")
                done.add(learnt.loss)
                if log:
                    log.write(done.step, self._epoch(), learnt)
                bar.set_postfix_str(self._live(learnt), refresh=False)
                bar.update()
                if done.step % self._every == 0 or done.step == self._steps:
                    self._check()

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; how long each is waited for, and worked on, is added up."""
        ended = time.perf_counter()
        for batch in batches:
            began = time.perf_counter()
            self._done.wait_seconds += began - ended
            measured = self._done.measure_seconds
            yield batch
            ended = time.perf_counter()
            self._done.work_seconds += ended - began - (self._done.measure_seconds - measured)

    def _check(self) -> None:
        """Measure the network, keep it if it is the best so far, and save all that a killed run needs."""
        if not self._trainer.finite:
            raise self._diverged(self._done.step, "weights are no longer finite")
        began = time.perf_counter()
        if self._measures and self._world.first:
            found = self._measured()
            accuracies = [next(iter(check["found"].values()))["accuracy"] for check in self._done.checks]
            self._done.checks.append({"step": self._done.step, "found": found})
            if next(iter(found.values()))["accuracy"] > max(accuracies, default=-1.0):
                self._best.save(self._trainer.weights())
        self._done.measure_seconds += time.perf_counter() - began
        self._save()

    def _measured(self) -> dict[str, Mapping[str, Any]]:
        """What every measure finds of the network as it is now."""
        network = self._trainer.network.eval()
        try:
            return {name: dict(measure.of(Live(network))) for name, measure in self._measures.items()}
        finally:
            network.train()

    def _save(self) -> None:
        if self._world.first:
            state = {"progress": asdict(self._done), "rejected": self._loader.rejected}
            self._checkpoint.save({**self._trainer.weights(), **self._trainer.state(), **state})

    def _diverged(self, step: int, what: str) -> ModelError:
        kept = self._out / CHECKPOINT
        return ModelError(
            f"training diverged in step {step:,} of {self._steps:,}: {what}; lower --learning-rate "
            f"(now {self._options.learning_rate:g}) or --scale, and start anew or with --init {kept} in another --out"
        )

    def finish(self) -> dict[str, Any]:
        """Write the network that is kept, its head and the report; then no checkpoint is needed any more."""
        best = self._best.load() if self._measures else None
        weights = self._trainer.weights() if best is None else best
        report = self._report()
        facts = {name: report[name] for name in ("faces", "identities", "kept_step")}
        made = Provenance("train", self._recorded_options(), self._inputs, facts)
        write_artefacts(self._out, self._options.arch, weights, self._roster.names.to_pylist(), made)
        text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False)
        write_text_whole(self._out / REPORT, text + "\n")
        self._checkpoint.remove()
        self._best.remove()
        return report

    def _report(self) -> dict[str, Any]:
        done, batch_size = self._done, self._plan.batch_size
        seconds = {"work": done.work_seconds, "wait": done.wait_seconds, "measure": done.measure_seconds}
        train_seconds = done.work_seconds + done.wait_seconds
        first = next(iter(self._measures), None)
        best = max(done.checks, key=lambda check: check["found"][first]["accuracy"], default=None)
        rejected = sorted(self._loader.rejected.items())
        return {
            "options": self._recorded_options(),
            "inputs": self._inputs,
            "precision": precision(self._options, self._world.device),
            "processes": self._world.size,
            "parameters": self._parameters,
            "faces_in_data_set": len(self._dataset),
            "faces": len(self._roster),
            "identities": len(self._roster.names),
            "rejected": [{"source": source, "reason": reason} for source, reason in rejected],
            "steps": self._steps,
            "epochs": self._epoch(),
            "loss": {"first": done.first_loss, "last": sum(done.last_losses) / len(done.last_losses)},
            "checks": done.checks,
            "kept_step": best["step"] if best else done.step,
            "accuracy": {"kept": best["found"], "final": done.checks[-1]["found"]} if best else None,
            "seconds": seconds,
            "waiting_share": done.wait_seconds / train_seconds,
            "faces_per_second": done.step * batch_size / train_seconds,
        }

    def _epoch(self) -> float:
        return self._done.step * self._plan.batch_size / self._plan.epoch_faces

    def _live(self, learnt: Learnt) -> str:
        """The end of the line on a terminal."""
        done = self._done
        waited = done.wait_seconds / max(1e-9, done.wait_seconds + done.work_seconds)
        return f"epoch {self._epoch():.2f}, loss {learnt.loss:.3f}, waiting {waited:.0%}"

    def _recorded_options(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self._options).items() if key not in WITHOUT_EFFECT}

    def _fingerprint(self) -> str:
        """What a checkpoint must be of: options and inputs, what is measured, and how many processes."""
        measures = [[name, measure.sha256] for name, measure in self._measures.items()]
        facts = {"options": self._recorded_options(), "inputs": self._inputs, "measures": measures}
        return sha256_of(canonical_json({**facts, "processes": self._world.size}))
