"""The learning rate of every step."""

from collections.abc import Callable

FALLS_AT = (0.5, 0.75, 0.9)  # of the training: where `step` divides the rate by ten


def _polynomial(done: float) -> float:
    return (1 - done) ** 2  # the power of arcface_torch


def _step(done: float) -> float:
    return float(0.1 ** sum(done >= at for at in FALLS_AT))


DECAYS: dict[str, Callable[[float], float]] = {"polynomial": _polynomial, "step": _step}


def rate(step: int, steps: int, *, warm_up: float, decay: str) -> float:
    """The share of the peak rate in a step, the first of which is 0: a line up, then the decay, in (0, 1]."""
    rising = round(warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return DECAYS[decay]((step - rising) / max(1, steps - rising))
