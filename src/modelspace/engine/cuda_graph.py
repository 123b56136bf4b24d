"""A program as a CUDA graph: hundreds of kernels launched as one.

A small net's step is a few hundred kernels of a few microseconds each, and launching each one takes as long. The
program is recorded once on fixed tensors; a call copies its arguments into them, replays the recording, and gives
back copies of what it wrote. The kernels are the same, so are the numbers, bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from modelspace.engine.flat import flat
from modelspace.engine.measurements import timing_of_calls

Program = Callable[..., Sequence[Any]]

_WARM_UP, _CALLS_SECONDS = 3, 0.05


def graphed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """``function`` as a CUDA graph, where its tensors lie on an NVIDIA GPU and that is faster; else as it is.

    Args:
        function: Of nested tuples and dicts of tensors (and constants), to the same.
        arguments: Examples; later ones have the same shapes and the same constants.

    Returns:
        A function of the same arguments; ``is_graph`` tells what it is.
    """
    given = flat(function, arguments)
    if not given.tensors or any(tensor.device.type != "cuda" for tensor in given.tensors):
        return function
    program, faster = captured_if_faster(given.function, given.tensors)
    if not faster:
        return function
    call = given.nested(program)
    call.is_graph = True  # pyright: ignore[reportFunctionMemberAccess]
    return call


def is_graph(function: Callable[..., Any] | None) -> bool:
    """Whether ``graphed`` made it a graph."""
    return getattr(function, "is_graph", False)


def captured_if_faster(program: Program, examples: Sequence[Tensor]) -> tuple[Program, bool]:
    """The program as a CUDA graph, if it can be one and replays faster than it runs; else as it is.

    Args:
        program: Of tensors on one CUDA device, with no use of the host in between, to a sequence.
        examples: Arguments; later ones have the same shapes.

    Returns:
        The program to call, and whether it is a graph.
    """
    try:
        replay = captured(program, examples)
        same = all(
            not isinstance(one, Tensor) or torch.equal(one.nan_to_num(), other.nan_to_num())
            for one, other in zip(program(*_copies(examples)), replay(*examples), strict=True)
        )
    except RuntimeError:
        # What can't be captured (a synchronisation, a workspace of a library's own) says so by an error.
        torch.cuda.synchronize()
        return program, False
    if not same:
        return program, False
    recorded, plain = (timing_of_calls(call, tuple(examples), _CALLS_SECONDS) for call in (replay, program))
    return (replay, True) if recorded.seconds < plain.seconds else (program, False)


def captured(program: Program, examples: Sequence[Tensor]) -> Program:
    """The program as a CUDA graph.

    Args:
        program: As for ``captured_if_faster``.
        examples: As there.

    Raises:
        RuntimeError: it can't be captured.
    """
    with torch.cuda.device(examples[0].device):
        return _captured(program, _copies(examples))


def _captured(program: Program, fixed: list[Tensor]) -> Program:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            program(*fixed)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = list(program(*fixed))
    tensors = [value for value in outputs if isinstance(value, Tensor)]

    def replay(*arguments: Tensor) -> list[Any]:
        torch._foreach_copy_(fixed, list(arguments))
        graph.replay()
        copies = [torch.empty_like(value) for value in tensors]
        torch._foreach_copy_(copies, tensors)
        apart = iter(copies)
        return [next(apart) if isinstance(value, Tensor) else value for value in outputs]

    return replay


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]
