"""Random numbers of a distribution, each a function of (member's seed, step, call site, element).

The functions made anew (``torch.rand``), those of a tensor's likeness (``torch.randn_like``), and those that fill a
tensor (``Tensor.uniform_``). Of float16 and bfloat16 uniform numbers have as many digits as fit below 1, and the
others are computed in float32 and rounded. A range is checked where it is given in plain numbers, and never in
tensors: under ``vmap`` nothing can ask for their values.

And the layers that draw: RReLU, and dropout, whose functions are the builtins that those of ``torch.nn.functional``
end in. An element, or a whole channel ('feature'), is dropped where a uniform number of [0, 1) in float32 is below p.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from modelspace.engine import randomness
from modelspace.engine.lowerings.batched import Function, Table
from modelspace.engine.randomness import DIGITS, Draws, interior, uniform

Shape = tuple[int, ...]
Kind = Callable[[Draws, Shape, torch.dtype], Tensor]

_ALPHA = -1.7580993408473766  # the negative saturation value of SELU (Klambauer et al. 2017)


def sizes(given: tuple[Any, ...]) -> Shape:
    """Return the shape that ``f(2, 3)`` or ``f((2, 3))`` asks for."""
    return tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else given


def finished(
    value: Tensor,
    out: Tensor | None = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
    generator: None = None,
) -> Tensor:
    """Return the numbers of a function of ``torch.rand``'s kind, where and how its options ask for them.

    How a tensor lies in memory is not among its values, and left to PyTorch.
    """
    if out is not None:
        return out.copy_(value)
    value = value.to(torch.get_default_device() if device is None else device)
    return value.requires_grad_() if requires_grad else value


def type_of(dtype: torch.dtype | None, out: Tensor | None, default: torch.dtype) -> torch.dtype:
    """Return the type asked for; that of ``out`` where none is, and the default where there is no ``out``."""
    return dtype or (default if out is None else out.dtype)


def required(condition: bool, text: str) -> None:
    """Raise PyTorch's kind of error unless the condition holds."""
    if not condition:
        raise RuntimeError(text)


def _require_real(name: str, dtype: torch.dtype) -> None:
    required(dtype in DIGITS, f"{name} numbers are floating-point; received dtype {dtype}")


def _precision(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 or not dtype.is_floating_point else torch.float32


def without_gradient(value: Tensor, *parameters: Any) -> Tensor:
    """Make ``value`` a function of the parameters with a gradient of zero, which is what PyTorch's samples have."""
    never = torch.zeros((), dtype=torch.bool, device=value.device)
    for parameter in parameters:
        if isinstance(parameter, Tensor) and parameter.is_floating_point():
            value = torch.where(never, parameter.to(value.dtype), value)
    return value


def _uniform(draws: Draws, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Draw uniform numbers in [0, 1); of a complex one the real and the imaginary part."""
    if dtype.is_complex:
        return torch.view_as_complex(_uniform(draws, (*shape, 2), dtype.to_real()))
    _require_real("uniform", dtype)
    return draws.of(uniform, shape, dtype)


def _normal(draws: Draws, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Draw standard normal numbers; of a complex one the real and the imaginary part have the variance ½."""
    if dtype.is_complex:
        return torch.view_as_complex(_normal(draws, (*shape, 2), dtype.to_real()) * math.sqrt(0.5))
    _require_real("normal", dtype)
    return draws.of(randomness.normal, shape, _precision(dtype)).to(dtype)


def made(
    kind: Kind, draws: Draws, *shape: Any, size: Any = None, dtype: torch.dtype | None = None, **options: Any
) -> Tensor:
    """``torch.rand``, ``torch.randn``."""
    wanted = sizes(shape if size is None else (size,))
    of_type = type_of(dtype, options.get("out"), torch.get_default_dtype())
    return finished(kind(draws, wanted, of_type), **options)


def made_like(
    kind: Kind,
    draws: Draws,
    input: Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    **options: Any,
) -> Tensor:
    """``torch.rand_like``, ``torch.randn_like``."""
    value = kind(draws, tuple(input.shape), dtype or input.dtype)
    return finished(value, device=input.device if device is None else device, **options)


def normal(
    draws: Draws,
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    size: Any = None,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    **options: Any,
) -> Tensor:
    """``torch.normal``: mean + std · z, z standard normal."""
    required(isinstance(std, Tensor) or std >= 0, f"normal expects std >= 0.0, but found std {std}")
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    if not tensors:
        z = made(_normal, draws, size=size, dtype=dtype, device=device)
        return finished(mean + std * z, device=z.device, **options)
    shape = torch.broadcast_shapes(*[x.shape for x in tensors])
    z = _normal(draws, tuple(shape), tensors[0].dtype)
    mean_, std_ = (x.detach() if isinstance(x, Tensor) else x for x in (mean, std))
    value = (mean_ + std_ * z).to(z.dtype)
    return finished(without_gradient(value, mean, std), device=tensors[0].device, **options)


def uniform_(draws: Draws, input: Tensor, low: float = 0.0, to: float = 1.0, **named: Any) -> Tensor:
    """``Tensor.uniform_``: from + (to − from) · u, u in [0, 1)."""
    low = named.get("from", low)
    required(low <= to, f"uniform_ expects to return a [from, to) range, but found from={low} > to={to}")
    _require_real("uniform", input.dtype)
    return input.copy_(low + (to - low) * _uniform(draws, tuple(input.shape), input.dtype))


def normal_(
    draws: Draws, input: Tensor, mean: float = 0.0, std: float = 1.0, generator: None = None
) -> Tensor:
    """``Tensor.normal_``: mean + std · z."""
    required(std >= 0, f"normal_ expects std >= 0.0, but found std={std}")
    return input.copy_(mean + std * _normal(draws, tuple(input.shape), input.dtype))


def log_normal_(
    draws: Draws, input: Tensor, mean: float = 1.0, std: float = 2.0, generator: None = None
) -> Tensor:
    """``Tensor.log_normal_``: exp(mean + std · z)."""
    required(std > 0, f"log_normal_ expects std > 0.0, but found std={std}")
    _require_real("log-normal", input.dtype)
    z = draws.of(randomness.normal, tuple(input.shape), _precision(input.dtype))
    return input.copy_(torch.exp(mean + std * z))


def exponential_(draws: Draws, input: Tensor, lambd: float = 1.0, generator: None = None) -> Tensor:
    """``Tensor.exponential_``: −log(u) / λ, u in (0, 1); never 0, so that its logarithm is finite."""
    required(lambd > 0, f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    _require_real("exponential", input.dtype)
    numbers = -torch.log(draws.of(interior, tuple(input.shape), _precision(input.dtype))) / lambd
    return input.copy_(numbers.clamp_min(torch.finfo(input.dtype).tiny))


def cauchy_(
    draws: Draws, input: Tensor, median: float = 0.0, sigma: float = 1.0, generator: None = None
) -> Tensor:
    """``Tensor.cauchy_``: median + sigma · cot(πu), u in (0, 1)."""
    required(sigma > 0, f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    _require_real("Cauchy", input.dtype)
    u = draws.of(interior, tuple(input.shape), _precision(input.dtype))
    return input.copy_(median + sigma / torch.tan(math.pi * u))


def geometric_(draws: Draws, input: Tensor, p: float, generator: None = None) -> Tensor:
    """``Tensor.geometric_``: ⌈log u / log(1 − p)⌉, at least 1, u in (0, 1)."""
    required(0 < p < 1, f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = draws.of(interior, tuple(input.shape), _precision(input.dtype))
    return input.copy_(torch.ceil(torch.log(u) / math.log1p(-p)).clamp_min(1))


def initialised(
    fill: Function, draws: Draws, tensor: Tensor, *bounds: float, generator: None = None, **named: float
) -> Tensor:
    """``nn.init.uniform_(tensor, a, b)``, ``nn.init.normal_(tensor, mean, std)``: filled without a gradient."""
    if "a" in named or "b" in named:
        named = {{"a": "low", "b": "to"}[name]: bound for name, bound in named.items()}
    with torch.no_grad():
        return fill(draws, tensor, *bounds, **named)


def kaiming_uniform_(
    draws: Draws,
    tensor: Tensor,
    a: float = 0,
    mode: Any = "fan_in",
    nonlinearity: Any = "leaky_relu",
    generator: None = None,
) -> Tensor:
    """``nn.init.kaiming_uniform_``: uniform in ±√3 gain/√fan."""
    if 0 in tensor.shape:
        return nn.init.kaiming_uniform_(tensor, a, mode, nonlinearity)
    gain = nn.init.calculate_gain(nonlinearity, a)
    bound = gain * math.sqrt(3 / nn.init._calculate_correct_fan(tensor, mode))
    return initialised(uniform_, draws, tensor, -bound, bound)


def rrelu(
    inplace: bool,
    draws: Draws | None,
    input: Float[Tensor, "*shape"],
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Any:
    """``torch.rrelu``: below 0 times a slope, uniform in [lower, upper) for each element.

    Without draws it is PyTorch's, but in evaluation, where the slope is the mean: ``vmap`` has no rule for that.
    """
    if draws is None:
        if training:
            return (torch.rrelu_ if inplace else torch.rrelu)(input, lower, upper, training, generator)
        return F.leaky_relu(input, (lower + upper) / 2, inplace)
    if not training:
        return NotImplemented
    slope = lower + (upper - lower) * _uniform(draws, tuple(input.shape), input.dtype)
    value = torch.where(input <= 0, input * slope, input)
    return input.copy_(value) if inplace else value


def dropout(
    of: Callable[[Tensor], Shape], inplace: bool, draws: Draws, input: Tensor, p: float, train: bool
) -> Tensor:
    """``torch.dropout``, ``torch.feature_dropout``: what is kept is divided by 1 − p."""
    if not train or p == 0:
        return input
    kept = _kept(draws, of(input), p).to(input.dtype)
    factor = kept * (0.0 if p == 1 else 1 / (1 - p))
    return input.mul_(factor) if inplace else input * factor


def alpha_dropout(
    of: Callable[[Tensor], Shape], inplace: bool, draws: Draws, input: Tensor, p: float, train: bool
) -> Tensor:
    """``torch.alpha_dropout``, and of features: dropped to SELU's saturation, mean and variance kept."""
    if not train or p == 0:
        return input
    kept = _kept(draws, of(input), p).to(input.dtype)
    scale = 0.0 if p == 1 else ((1 - p) * (1 + p * _ALPHA**2)) ** -0.5
    result = (input * kept + _ALPHA * (1 - kept)) * scale - scale * _ALPHA * p
    return input.copy_(result) if inplace else result


def native_dropout(draws: Draws, input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """``torch.native_dropout``: the output, and the mask of what is kept."""
    if train is False or p == 0:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    kept = _kept(draws, _elements(input), p)
    return input * kept.to(input.dtype) * (0.0 if p == 1 else 1 / (1 - p)), kept


def _elements(input: Tensor) -> Shape:
    return tuple(input.shape)


def _channels(input: Tensor) -> Shape:
    required(input.dim() >= 2, "Feature dropout requires at least 2 dimensions in the input")
    return (*input.shape[:2], *[1] * (input.dim() - 2))


def _kept(draws: Draws, shape: Shape, p: float) -> Bool[Tensor, "*shape"]:
    required(0 <= p <= 1, f"dropout probability has to be between 0 and 1, but got {p}")
    return draws.of(uniform, shape) >= p


TABLE: Table = {torch.rrelu: partial(rrelu, False, None), torch.rrelu_: partial(rrelu, True, None)}
DRAWN: Table = {
    torch.rand: partial(made, _uniform),
    torch.randn: partial(made, _normal),
    torch.rand_like: partial(made_like, _uniform),
    torch.randn_like: partial(made_like, _normal),
    torch.normal: normal,
    Tensor.uniform_: uniform_,
    Tensor.normal_: normal_,
    Tensor.log_normal_: log_normal_,
    Tensor.exponential_: exponential_,
    Tensor.cauchy_: cauchy_,
    Tensor.geometric_: geometric_,
    torch.rrelu: partial(rrelu, False),
    torch.rrelu_: partial(rrelu, True),
    torch.dropout: partial(dropout, _elements, False),
    torch.dropout_: partial(dropout, _elements, True),
    torch.feature_dropout: partial(dropout, _channels, False),
    torch.feature_dropout_: partial(dropout, _channels, True),
    torch.alpha_dropout: partial(alpha_dropout, _elements, False),
    torch.alpha_dropout_: partial(alpha_dropout, _elements, True),
    torch.feature_alpha_dropout: partial(alpha_dropout, _channels, False),
    torch.feature_alpha_dropout_: partial(alpha_dropout, _channels, True),
    torch.native_dropout: native_dropout,
    # The other functions of nn.init end in methods of the tensor, and are seen through.
    nn.init.uniform_: partial(initialised, uniform_),
    nn.init.normal_: partial(initialised, normal_),
    nn.init.kaiming_uniform_: kaiming_uniform_,
}
