"""What a student learns from a teacher's logits."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.contracts import Contract
from modelspace.losses.finite import wide
from modelspace.losses.loss import Loss
from modelspace.losses.parameters import TEMPERATURE
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import require_same_shape, single_column
from modelspace.losses.structured.contracts import teacher


@dataclass(frozen=True)
class Distillation(Loss):
    """The divergence from a teacher, T² KL(q ‖ p) with q = softmax(t/T) and p = softmax(z/T).

    Outputs are the student's logits z ``[N, C, …]``, labels the teacher's t of the same shape; one value a sample, or
    a place. T² keeps the gradient's size as T grows; in the limit ℓ is half the mean squared error of the logits,
    each side less its own mean.

    Attributes:
        temperature: T > 0.

    Example:
        >>> import torch
        >>> Distillation(temperature=1.0)(torch.zeros(1, 2), torch.tensor([[3.0, 0.0]]))
        tensor(0.5023)

    Source:
        Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531, 2015.
    """

    outputs = "logits"
    labels = "real"

    temperature: float = 2.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"T^2 \sum_c q_c \log\frac{q_c}{p_c},\; q_c \propto e^{t_c / T},\; p_c \propto e^{z_c / T}",
            convex=True,
            lipschitz=2**0.5 * self.temperature,
            smooth=0.5,
            minimiser=r"T \log \mathbb{E}\, q + \mathrm{const}",
            source="Hinton, Vinyals, Dean 2015",
        )

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N, …]``."""
        require_same_shape(self.name, outputs, labels)
        if outputs.ndim < 2 or outputs.shape[1] == 1:
            raise single_column(self.name, outputs)
        z = wide(outputs)
        student = F.log_softmax(z / self.temperature, 1)
        taught = F.log_softmax(labels.to(z.dtype) / self.temperature, 1)
        return self.temperature**2 * (torch.exp(taught) * (taught - student)).sum(1)

    @property
    def contract(self) -> Contract:
        """A teacher's logits."""
        return teacher

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The softmax over the classes, at temperature 1."""
        return torch.softmax(outputs, 1)

    def ranges(self) -> Mapping[str, Range]:
        """What T may be."""
        return {"temperature": TEMPERATURE}

    def minimiser(self, teachers: Float[Tensor, "teacher class"]) -> Float[Tensor, "class"]:
        """The logits that minimise the mean over equally likely teachers: T log of the mean softened distribution."""
        softened = torch.softmax(teachers / self.temperature, -1).mean(0)
        return self.temperature * torch.log(softened)
