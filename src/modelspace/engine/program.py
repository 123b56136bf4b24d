"""A function of tensors as one program: compiled by Inductor, and on a GPU recorded as a CUDA graph.

The function is traced once with ``make_fx``, which sees through ``vmap``, the backward and the optimizer, so that the
whole step is one graph without breaks or guards. It may write into its arguments.

A small net's step is a few hundred kernels of a few microseconds each, and launching each one takes as long. As a
CUDA graph the program is recorded once on fixed tensors; a call copies its arguments into them, replays the
recording, and gives back copies of what it wrote. The kernels are the same, so are the numbers, bit for bit.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from modelspace.engine.measurements import timing_of_calls
from modelspace.errors import first_line

Program = Callable[..., Any]  # of nested tuples and dicts of tensors (and constants), to the same
Flat = Callable[..., Sequence[Any]]  # of tensors, to a sequence

_KEPT = 16
# Operations whose result is their argument, without autograd; and those whose result may lie in memory as it did.
_RENAMING = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)
_SHAPING = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.permute.default,
    torch.ops.aten.expand.default,
)
_WARM_UP, _CALLS_SECONDS = 3, 0.05
_programs: OrderedDict[Any, Program] = OrderedDict()


class CompileError(RuntimeError):
    """The function can't be compiled here; the message says why."""


def compiled(function: Program, *arguments: Any, key: Any = None) -> Program:
    """Compile ``function`` for arguments of these shapes and types.

    Args:
        function: What is compiled.
        *arguments: Examples. They are copied, so that tracing leaves them as they are.
        key: What else the computation depends on, hashable. With a key, the last few programs are kept, and
            the same key and shapes are never compiled twice.

    Returns:
        A function of the same arguments, with tensors of the same shapes and the same constants. On a GPU it is a
        CUDA graph where that is faster (``is_graph``).

    Raises:
        CompileError: there is no compiler, or the function can't be traced or compiled.
    """
    return _made(function, arguments, key, _by_inductor)


def traced(function: Program, *arguments: Any, key: Any = None) -> Program:
    """Return ``function`` as the list of its operations, called one after the other, by PyTorch's C++ interpreter.

    The operations and their bits are those of ``function``; what is gone is Python between them: ``vmap``, autograd,
    the search for lowerings. A small net's step takes a third to a sixth of the time so, and the list is made in a
    fraction of a second, where compiling takes ten.

    Args:
        function: What is traced.
        *arguments: As of ``compiled``.
        key: As of ``compiled``.

    Raises:
        CompileError: the function can't be traced: it asks a tensor for its value, or draws from a generator.
    """
    return _made(function, arguments, key, _interpreted)


def _made(
    function: Program, arguments: tuple[Any, ...], key: Any, make: Callable[..., tuple[Flat, bool]]
) -> Program:
    """Trace a function and make a program of its graph, or take the one that was made before."""
    made_for = signature(arguments, (make.__name__, key))
    if key is not None and made_for in _programs:
        _programs.move_to_end(made_for)
        return _programs[made_for]
    places, tensors, of_tensors, outputs = _flat(function, arguments)
    copies: list[Any] = _copies(tensors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = make_fx(of_tensors)(*copies)
            graph.graph.eliminate_dead_code()
            program, recorded = make(graph, tensors)
    except Exception as error:
        raise CompileError(first_line(error)) from error
    made = _Nested(program, places, outputs, recorded)
    if key is not None:
        _programs[made_for] = made
        while len(_programs) > _KEPT:
            _programs.popitem(last=False)
    return made


def _by_inductor(graph: torch.fx.GraphModule, tensors: Sequence[Tensor]) -> tuple[Flat, bool]:
    """Compile a graph; return the program, and whether it is a CUDA graph."""
    _reshaped(graph)
    # The number of threads is written into the program, so it belongs to what a cached one is found by.
    options = {"cpp.threads": 1 if _scatters(graph) else torch.get_num_threads()}
    copies: list[Any] = _copies(tensors)
    program: Any = torch._inductor.compile(graph, copies, options)
    program(*_copies(tensors))
    return captured_if_faster(program, tensors) if _on_a_gpu(tensors) else (program, False)


def _interpreted(graph: torch.fx.GraphModule, tensors: Sequence[Tensor]) -> tuple[Flat, bool]:
    """Return a program that calls a graph's operations, those left out that change nothing."""
    for node in [*graph.graph.nodes]:
        if node.target in _RENAMING or (node.target in _SHAPING and _is_same(node, node.args[0])):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()
    # Python calls the list where the interpreter can't: torch.jit is deprecated since torch 2.9 and may be gone one
    # day, takes and gives tensors alone, and knows no arguments of some kinds (the mask of ``convolution_backward``).
    with suppress(AttributeError, RuntimeError), torch.no_grad():
        listed: Any = torch.jit.trace(graph, tuple(_copies(tensors)), check_trace=False)
        return listed, False
    return graph, False


def _is_same(node: Any, of: Any) -> bool:
    """Tell whether an operation's result lies in memory as its argument does."""
    own, given = (getattr(n, "meta", {}).get("tensor_meta") for n in (node, of))
    return own is not None and given is not None and (own.shape, own.stride) == (given.shape, given.stride)


def is_compiled(arguments: tuple[Any, ...], key: Any) -> bool:
    """Tell whether ``compiled`` has such a program already."""
    return key is not None and signature(arguments, (_by_inductor.__name__, key)) in _programs


def signature(arguments: tuple[Any, ...], key: Any) -> Any:
    """Return what a program is made for: the caller's key, and each argument's shape, type and device."""
    leaves, structure = pytree.tree_flatten(arguments)
    kinds = [(tuple(x.shape), x.dtype, x.device) if isinstance(x, Tensor) else x for x in leaves]
    return (key, torch.get_num_threads(), str(structure), tuple(kinds))


def _reshaped(graph: torch.fx.GraphModule) -> None:
    """Make views reshapes: traced again without values, a tensor may lie in an order of which there is no view."""
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    graph.recompile()


def _scatters(graph: torch.fx.GraphModule) -> bool:
    """Tell whether numbers are added up at places given by indices.

    With several threads Inductor writes some of those sums to wrong places (torch 2.13; pytorch/pytorch issue
    191837); with one it does not. Matrix products keep their threads: they are calls of a library.
    """
    names = ("index_put", "index_add", "scatter_add", "scatter_reduce", "embedding_dense_backward")
    return any(name in str(node.target) for node in graph.graph.nodes for name in names)


def _flat(
    function: Program, arguments: tuple[Any, ...]
) -> tuple[list[int], list[Tensor], Flat, list[pytree.TreeSpec]]:
    """Take a function by the tensors in its arguments, of which these are examples.

    Returned are the tensors' places among the arguments' leaves; the tensors; the function of such tensors alone; and
    a list that holds the structure of its results once it was called.
    """
    examples, structure = pytree.tree_flatten(arguments)
    places = [i for i, leaf in enumerate(examples) if isinstance(leaf, Tensor)]
    constants = [None if isinstance(leaf, Tensor) else leaf for leaf in examples]
    outputs: list[pytree.TreeSpec] = []

    def of_tensors(*tensors: Tensor) -> list[Any]:
        leaves = list(constants)
        for place, tensor in zip(places, tensors, strict=True):
            leaves[place] = tensor
        results, shape = pytree.tree_flatten(function(*pytree.tree_unflatten(leaves, structure)))
        outputs[:] = [shape]
        return results

    return places, [examples[i] for i in places], of_tensors, outputs


class _Nested:
    """A program of tensors, called with the arguments that they are in; see ``_flat``."""

    def __init__(self, program: Flat, places: list[int], outputs: list[pytree.TreeSpec], recorded: bool):
        self.recorded = recorded
        self._program, self._places, self._outputs = program, places, outputs

    def __call__(self, *arguments: Any) -> Any:
        leaves = pytree.tree_leaves(arguments)
        return pytree.tree_unflatten(self._program(*[leaves[i] for i in self._places]), self._outputs[0])


def graphed(function: Program, arguments: tuple[Any, ...]) -> Program:
    """Make a function a CUDA graph, where its tensors lie on an NVIDIA GPU and that is faster; else leave it."""
    places, tensors, of_tensors, outputs = _flat(function, arguments)
    if not _on_a_gpu(tensors):
        return function
    program, recorded = captured_if_faster(of_tensors, tensors)
    return _Nested(program, places, outputs, True) if recorded else function


def is_graph(function: Program | None) -> bool:
    """Tell whether it is a CUDA graph."""
    return isinstance(function, _Nested) and function.recorded


def _on_a_gpu(tensors: Sequence[Tensor]) -> bool:
    return bool(tensors) and all(tensor.device.type == "cuda" for tensor in tensors)


def captured_if_faster(program: Flat, examples: Sequence[Tensor]) -> tuple[Flat, bool]:
    """Record a program as a CUDA graph, if it can be one and replays faster than it runs; else leave it.

    It is of tensors on one CUDA device, of which these are examples, and makes no use of the host in between.
    Returned are the program to call, and whether it is a graph.
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


def captured(program: Flat, examples: Sequence[Tensor]) -> Flat:
    """Record a program, as in ``captured_if_faster``, as a CUDA graph; a RuntimeError where it can't be."""
    with torch.cuda.device(examples[0].device):
        fixed = _copies(examples)
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
