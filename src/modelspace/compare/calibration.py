"""Calibration: are predictions of probability 0.8 right eight times in ten?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from modelspace.compare.margins import of_classes
from modelspace.losses import Loss

RESAMPLES = 200
_PIECE = 4096


@dataclass(frozen=True)
class Calibration:
    """A reliability curve and its summary, over equal bins of the confidence.

    Classes: the confidence is the largest probability, and what happens is that its class is right. Labels ±1: it is
    the probability of +1, and what happens is +1. A bin's curve is over all members' predictions together; the
    error is each member's own, averaged.

    Attributes:
        confidence: Mean confidence in each bin; None in an empty one.
        frequency: How often it happened there; None in an empty one.
        counts: Predictions there, all members together.
        ece: Expected calibration error, Σ_b (n_b/N) |frequency_b − confidence_b|, the mean over members.
        ece_sd: Its standard deviation over members (seeds); None below 2.
        ece_error: Its standard error over test samples, by the bootstrap: the same samples for all members.
        ece_floor: What this error would be, on average, of these confidences if they were perfectly calibrated; it is
            never 0 with finitely many samples.
    """

    confidence: tuple[float | None, ...]
    frequency: tuple[float | None, ...]
    counts: tuple[int, ...]
    ece: float
    ece_sd: float | None
    ece_error: float
    ece_floor: float


def confidences(
    loss: Loss, outputs: Float[Tensor, "member sample *output"], labels: Shaped[Tensor, "sample *place"]
) -> tuple[Float[Tensor, "member prediction"], Float[Tensor, "member prediction"]] | None:
    """The confidence of each prediction by the loss's own inverse link, and whether it happened (0 or 1).

    One against the rest, the classes' probabilities need not sum to 1: the confidence is the chosen class's own.

    Args:
        loss: With its parameters.
        outputs: ``[M, N, C, …]`` or ``[M, N, …]``.
        labels: Classes, or ±1.

    Returns:
        Both in double precision; None where the loss has no probabilities.
    """
    p = loss.probability(outputs.flatten(0, 1).double())
    if p is None:
        return None
    p = p.view(outputs.shape)
    if of_classes(outputs[0], labels):
        chosen = outputs.argmax(2)
        happened = (chosen == labels).flatten(1)
        return p.gather(2, chosen.unsqueeze(2)).flatten(1), happened.double()
    return p.flatten(1), (labels > 0).double().flatten().expand(len(p), -1)


class CalibrationTally:
    """Adds up what `Calibration` holds, some members at a time.

    Args:
        bins: How many, of equal width over [0, 1]; a confidence at an edge belongs to the bin below.
        samples: Test samples, which the bootstrap draws with replacement.
        seed: Of the bootstrap.

    Source:
        Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015 (the
        error); Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017; Efron, "Bootstrap
        methods", Annals of Statistics 7, 1979.
    """

    def __init__(self, bins: int, samples: int, seed: int):
        self._bins = bins
        self._inner = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
        self._sums = torch.zeros(3, bins, dtype=torch.float64)  # predictions, their confidence, what happened
        self._errors: list[Tensor] = []
        self._floors: list[Tensor] = []
        self._resampled = torch.zeros(RESAMPLES, dtype=torch.float64)
        draws = np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), RESAMPLES)
        self._weights = torch.from_numpy(draws.astype(np.float32))

    def add(
        self, confidence: Float[Tensor, "member prediction"], happened: Float[Tensor, "member prediction"]
    ) -> None:
        """Take in some members' predictions."""
        confidence, happened = confidence.cpu().contiguous(), happened.cpu().contiguous()
        places = torch.bucketize(confidence, self._inner)
        n = torch.zeros(len(confidence), self._bins, dtype=torch.float64)
        sums = [
            n.scatter_add(1, places, x)
            for x in (torch.ones_like(confidence), confidence, happened, confidence * (1 - confidence))
        ]
        self._sums += torch.stack([x.sum(0) for x in sums[:3]])
        predictions = confidence.shape[1]
        self._errors.append((sums[2] - sums[1]).abs().sum(1) / predictions)
        # E|X| of a bin whose sum of outcomes is about normal: √(2/π) times its standard deviation.
        self._floors.append((2 / torch.pi * sums[3]).sqrt().sum(1) / predictions)
        for member in range(len(confidence)):
            self._resampled += self._of_resamples(places[member], happened[member] - confidence[member])

    def _of_resamples(
        self, places: Int[Tensor, "prediction"], gaps: Float[Tensor, "prediction"]
    ) -> Float[Tensor, "resample"]:
        """One member's calibration error on each resample of the samples."""
        samples = self._weights.shape[1]
        each = len(places) // samples  # places of a sample, such as pixels, are drawn together
        found = torch.zeros(RESAMPLES, self._bins)
        for begin in range(0, samples, _PIECE):
            part = slice(begin * each, (begin + _PIECE) * each)
            count = len(places[part]) // each
            row = torch.arange(count).repeat_interleave(each)
            spread = torch.zeros(count, self._bins)
            spread.index_put_((row, places[part]), gaps[part].float(), accumulate=True)
            found += self._weights[:, begin : begin + count] @ spread
        return found.abs().sum(1).double() / len(places)

    def result(self) -> Calibration | None:
        """What was found; None of no member."""
        if not self._errors:
            return None
        errors, floors = torch.cat(self._errors), torch.cat(self._floors)
        n, confidence, happened = self._sums
        means = [
            tuple(float(s / k) if k else None for s, k in zip(sums, n, strict=True))
            for sums in (confidence, happened)
        ]
        return Calibration(
            *means,
            counts=tuple(int(k) for k in n),
            ece=float(errors.mean()),
            ece_sd=float(errors.std()) if len(errors) > 1 else None,
            ece_error=float((self._resampled / len(errors)).std()),
            ece_floor=float(floors.mean()),
        )
