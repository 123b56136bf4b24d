"""Traces of many symmetric operators at once: Hutch++ on a space that is spanned already, with standard errors.

tr A = tr VᵀAV + tr PAP with P = I − VVᵀ: the first is exact, of the space V in which eigenvalues were looked for; the
second is a mean over probes, uᵀAu with u = Pv, whose variance is that of the rest of A. Without V it is Hutchinson's
estimator, of variance 2(‖A‖²_F − Σaᵢᵢ²) a probe of signs, and 2‖A‖²_F a normal one.

Source:
    Meyer, Musco, Musco and Woodruff, "Hutch++: optimal stochastic trace estimation", SOSA 2021; Chen and Hallman,
    "Krylov-aware stochastic trace estimation", SIAM J. Matrix Anal. 44, 2023, where V is a Krylov space as here.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from modelspace.geometry._spectrum import Krylov, Product, sums_by, without
from modelspace.widest import widest


def traces(
    product: Product,
    probes: Float[Tensor, "row probe n"],
    space: Krylov | None = None,
    layer: Int64[Tensor, "n"] | None = None,
) -> dict[str, Float[Tensor, "row *layer"]]:
    """Estimate the trace of each row's operator, of its square, and of its diagonal blocks.

    Args:
        product: Of the operators.
        probes: Two random vectors or more, of mean 0 and covariance I, independent of each other and of ``space``.
        space: Where the operators are known exactly, made with the same ``layer``.
        layer: Of each coordinate, its layer, from 0.

    Returns:
        ``trace``; ``square``, tr A² = E ‖Av‖²; ``by_layer``, E vᵦᵀ(Av)ᵦ, whose sum is ``trace``: A's entries between
        layers add to their variance, not to their mean. ``trace_se`` and so on: their standard errors, SD over the p
        probes / √p. NaN where a product was not finite.
    """
    (rows, count, _), kind = probes.shape, widest(probes.device)
    rest = probes if space is None else without(probes, space.basis)
    index = torch.arange(rows, device=probes.device).repeat_interleave(count)
    images = product(index, rest.flatten(0, 1)).unflatten(0, (rows, count))
    pairs = [(u.to(kind), y.to(kind)) for u, y in zip(rest, images, strict=True)]
    values = {
        "trace": torch.stack([(u * y).sum(1) for u, y in pairs]),
        "square": torch.stack([(y * y).sum(1) for _, y in pairs]),
        "by_layer": sums_by(layer, rest * images),  # diag A = diag AVVᵀ + diag AP, and E uuᵀ = P
    }
    found = {}
    for name, value in values.items():
        mean = value.mean(1)
        found[f"{name}_se"] = (value - mean[:, None]).square().sum(1).div(count * (count - 1)).sqrt()
        if space is not None:
            gone = space.lost.view(-1, *[1] * (mean.dim() - 1))
            mean = (mean + getattr(space, name)).masked_fill(gone, torch.nan)
        found[name] = mean
    return found
