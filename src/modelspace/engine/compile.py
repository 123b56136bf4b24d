"""A function of tensors as one compiled program: traced once with ``make_fx``, compiled by Inductor.

The trace sees through ``vmap``, the backward and the optimizer, so that the whole step is one graph without
breaks or guards. The function may write into its arguments.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from modelspace.engine.cuda_graph import graphed
from modelspace.engine.flat import flat
from modelspace.errors import first_line


class CompileError(RuntimeError):
    """The function can't be compiled here; the message says why."""


_KEPT = 16
_programs: OrderedDict[Any, Callable[..., Any]] = OrderedDict()


def _scatters(graph: torch.fx.GraphModule) -> bool:
    """Whether numbers are added up at places given by indices.

    With several threads Inductor writes some of those sums to wrong places (torch 2.13; pytorch/pytorch issue
    191837); with one it does not. Matrix products keep their threads: they are calls of a library.
    """
    names = ("index_put", "index_add", "scatter_add", "scatter_reduce", "embedding_dense_backward")
    return any(name in str(node.target) for node in graph.graph.nodes for name in names)


def signature(arguments: tuple[Any, ...], key: Any) -> Any:
    """What a program is made for: the caller's key, and each argument's shape, type and device."""
    leaves, structure = pytree.tree_flatten(arguments)
    kinds = [(tuple(x.shape), x.dtype, x.device) if isinstance(x, Tensor) else x for x in leaves]
    return (key, torch.get_num_threads(), str(structure), tuple(kinds))


def is_compiled(arguments: tuple[Any, ...], key: Any) -> bool:
    """Whether ``compiled`` has such a program already."""
    return key is not None and signature(arguments, key) in _programs


def compiled(function: Callable[..., Any], *arguments: Any, key: Any = None) -> Callable[..., Any]:
    """``function`` compiled for arguments of these shapes and types.

    Args:
        function: A function of nested tuples and dicts of tensors (and constants), to the same.
        *arguments: Examples. They are copied, so that tracing leaves them as they are.
        key: What else the computation depends on, hashable. With a key, the last few programs are kept, and
            the same key and shapes are never compiled twice.

    Returns:
        A function of the same arguments, with tensors of the same shapes and the same constants. On a GPU it is a
        CUDA graph where that is faster (``cuda_graph.is_graph``).

    Raises:
        CompileError: there is no compiler, or the function can't be traced or compiled.
    """
    made_for = signature(arguments, key)
    if key is not None and made_for in _programs:
        _programs.move_to_end(made_for)
        return _programs[made_for]
    given = flat(function, arguments)
    copies: list[Any] = [tensor.clone() for tensor in given.tensors]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = make_fx(given.function)(*copies)
            graph.graph.eliminate_dead_code()
            # The number of threads is written into the program, so it belongs to what a cached one is found by.
            options = {"cpp.threads": 1 if _scatters(graph) else torch.get_num_threads()}
            program: Any = torch._inductor.compile(graph, copies, options)
            program(*copies)
    except Exception as error:
        raise CompileError(first_line(error)) from error

    made = graphed(given.nested(program), arguments)
    if key is not None:
        _programs[made_for] = made
        while len(_programs) > _KEPT:
            _programs.popitem(last=False)
    return made
