"""What a student is asked to get right: a literal table of losses on a batch of embeddings."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Loss(nn.Module):
    """A number to make small, from a batch of the student's and the teacher's embeddings.

    Called with both (n, d), not normalised, and the identity of each face as a number (n,). What a loss remembers
    between batches it keeps in buffers, so that a checkpoint holds it.
    """

    needs_identities: ClassVar[bool] = False  # and several faces of some of them in each batch

    def __init__(self, ekd_weight: float = 1.0) -> None:
        super().__init__()
        self.ekd_weight = ekd_weight  # of the ranks beside the embeddings, where a loss has them


class Cosine(Loss):
    """Mean over faces of the squared distance of the normalised embeddings, which is 2 (1 - cosine).

    QuantFace's loss is this divided by the dimension, which only scales the rate.
    """

    def forward(self, student: Tensor, teacher: Tensor, identities: Tensor) -> Tensor:
        """The loss of a batch."""
        return (F.normalize(student) - F.normalize(teacher)).square().sum(1).mean()


class Ekd(Cosine):
    """Cosine, and the ranks of pairs at the thresholds of verification (evaluation-oriented, arXiv 2206.02325).

    A threshold is the cosine that a given share of the pairs of two people exceed, for student and teacher each their
    own, averaged over batches. The soft rank of a pair counts the thresholds below its cosine. To the embedding loss
    are added the mean squared difference between student and teacher of the ranks of pairs of one person, and of the
    HARDEST pairs of two, which the student finds most alike.
    """

    needs_identities = True
    FALSE_POSITIVE_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    MOMENTUM = 0.01  # of a batch's thresholds in their moving average
    TEMPERATURE = 0.01
    HARDEST = 2000
    POSITIVE_WEIGHT, NEGATIVE_WEIGHT = 0.02, 0.01

    def __init__(self, ekd_weight: float = 1.0) -> None:
        super().__init__(ekd_weight)
        self.register_buffer("thresholds", torch.zeros(2, len(self.FALSE_POSITIVE_RATES)))  # student's, teacher's
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.thresholds: Tensor
        self.batches: Tensor

    def forward(self, student: Tensor, teacher: Tensor, identities: Tensor) -> Tensor:
        """The loss of a batch."""
        loss = super().forward(student, teacher, identities)
        one, other = torch.triu_indices(len(student), len(student), 1, device=student.device)
        same = identities[one] == identities[other]
        cosines = torch.stack([(F.normalize(of)[one] * F.normalize(of)[other]).sum(1) for of in (student, teacher)])
        if same.all() or not same.any():
            return loss
        self._follow(cosines[:, ~same].detach())
        ranks = self.soft_ranks(cosines)
        apart = (ranks[0] - ranks[1]).square()
        hardest = cosines[0, ~same].detach().topk(min(self.HARDEST, int((~same).sum()))).indices
        ekd = self.POSITIVE_WEIGHT * apart[same].mean() + self.NEGATIVE_WEIGHT * apart[~same][hardest].mean()
        return loss + self.ekd_weight * ekd

    def soft_ranks(self, cosines: Tensor) -> Tensor:
        """How many thresholds lie below each cosine (2, pairs), softly: from 0 to 6."""
        distances = cosines[:, :, None] - self.thresholds[:, None, :]  # (2, pairs, thresholds)
        return torch.sigmoid(distances / self.TEMPERATURE).sum(2)

    def _follow(self, negatives: Tensor) -> None:
        """Move the thresholds towards those of a batch (2, pairs), where a rate below 1 / pairs means the largest."""
        ordered = negatives.sort(1, descending=True).values
        places = [int(rate * ordered.shape[1]) for rate in self.FALSE_POSITIVE_RATES]
        momentum = self.MOMENTUM if self.batches else 1.0
        self.thresholds.lerp_(ordered[:, places], momentum)
        self.batches += 1


LOSSES: Mapping[str, type[Loss]] = {"cosine": Cosine, "ekd": Ekd}
