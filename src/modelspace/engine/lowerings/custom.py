"""Custom ``torch.autograd.Function``s without a batching rule: member by member, instead of an error.

One with a ``vmap`` of its own, or with ``generate_vmap_rule``, is left alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import Function


@contextmanager
def custom_functions(one_by_one: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Within the block, custom functions without a batching rule run member by member.

    Args:
        one_by_one: Of the name and the ``apply`` of such a function, what carries it out member by member.
    """
    original = Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        plain = original.__get__(None, cls)
        own = cls.generate_vmap_rule or cls.vmap is not Function.vmap
        if own or not torch._C._are_functorch_transforms_active():  # pyright: ignore[reportAttributeAccessIssue]
            return plain(*args, **kwargs)
        return one_by_one(cls.__name__, plain)(*args, **kwargs)

    Function.apply = classmethod(apply)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        Function.apply = original
