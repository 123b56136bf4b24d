"""The counters that others have written, each asked for parameters and FLOP of one forward."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.zoo import without_torchvision_s_library

# ptflops and calflops import torchvision, whose wheels fail beside a CPU build of torch.
_LIBRARY = without_torchvision_s_library()

Count = tuple[int | None, int]
Counter = Callable[[nn.Module, torch.Tensor], Count]


def ours(net: nn.Module, x: torch.Tensor) -> Count:
    """``modelspace.cost``."""
    from modelspace.cost import anatomy

    record = anatomy(net, inputs=x, backward=False)
    return record.counts.parameters, record.forward_flops


def flop_counter_mode(net: nn.Module, x: torch.Tensor) -> Count:
    """PyTorch's own; it counts no parameters."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode, torch.no_grad():
        net(x)
    return None, mode.get_total_flops()


def torchinfo(net: nn.Module, x: torch.Tensor) -> Count:
    """Its mult-adds are MAC."""
    from torchinfo import summary  # pyright: ignore[reportMissingImports]

    found = summary(net, input_data=x, verbose=0)
    return found.total_params, 2 * int(found.total_mult_adds)


def fvcore(net: nn.Module, x: torch.Tensor) -> Count:
    """Its flops are MAC."""
    from fvcore.nn import FlopCountAnalysis, parameter_count  # pyright: ignore[reportMissingImports]

    counted = FlopCountAnalysis(net, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return parameter_count(net)[""], 2 * int(counted.total())


def ptflops(net: nn.Module, x: torch.Tensor) -> Count:
    """Its complexity is in MAC; of its two backends the default."""
    from ptflops import get_model_complexity_info  # pyright: ignore[reportMissingImports]

    macs, parameters = get_model_complexity_info(
        net,
        tuple(x.shape[1:]),
        input_constructor=lambda shape: x,
        as_strings=False,
        print_per_layer_stat=False,
        verbose=False,
    )
    return int(parameters), 2 * int(macs)


def thop(net: nn.Module, x: torch.Tensor) -> Count:
    """It counts MAC."""
    from thop import profile  # pyright: ignore[reportMissingImports]

    macs, parameters = profile(net, inputs=(x,), verbose=False)
    return int(parameters), 2 * int(macs)


def calflops(net: nn.Module, x: torch.Tensor) -> Count:
    """Its MAC, for its FLOP hold elementwise arithmetic too."""
    from calflops import calculate_flops  # pyright: ignore[reportMissingImports]

    _, macs, parameters = calculate_flops(
        net, args=[x], print_results=False, print_detailed=False, output_as_string=False
    )
    return int(parameters), 2 * int(macs)


# Each with the package that it needs.
COUNTERS: dict[str, tuple[Counter, str]] = {
    "modelspace": (ours, "modelspace"),
    "FlopCounterMode": (flop_counter_mode, "torch"),
    "torchinfo": (torchinfo, "torchinfo"),
    "fvcore": (fvcore, "fvcore"),
    "ptflops": (ptflops, "ptflops"),
    "thop": (thop, "thop"),
    "calflops": (calflops, "calflops"),
}


def counted(name: str, net: nn.Module, x: torch.Tensor) -> Count | str:
    """What a counter finds; as text, that it is not installed, or how it failed."""
    count, package = COUNTERS[name]
    if find_spec(package) is None:
        return "not installed"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return count(net, x)
    except Exception as error:
        return f"fails: {type(error).__name__}"
