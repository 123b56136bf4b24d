"""Which module of one architecture is which of the other: by name, then by structure."""

from collections.abc import Mapping
from difflib import SequenceMatcher

from modelspace.cost._facts import Facts

Pair = tuple[Facts | None, Facts | None]


def aligned(a: Mapping[str, Facts], b: Mapping[str, Facts]) -> list[Pair]:
    """Pairs of modules, in the order of the second architecture; those only in the first follow their neighbour.

    Modules of one name are a pair. Of the others, those are that are the same in class, arguments and tensors, in
    runs in the same order: a renamed part is found as a whole.

    Args:
        a: The first architecture's modules by name.
        b: The second's.

    Example:
        >>> old = {n: Facts(n, t, "", (), 0) for n, t in [("", "Net"), ("conv", "Conv2d"), ("fc", "Linear")]}
        >>> new = {n: Facts(n, t, "", (), 0) for n, t in [("", "Net"), ("conv", "Conv2d"), ("head", "Linear")]}
        >>> [(x and x.name, y and y.name) for x, y in aligned(old, new)]
        [('', ''), ('conv', 'conv'), ('fc', 'head')]
    """
    partner = {name: name for name in b if name in a}
    left = [name for name in a if name not in b]
    right = [name for name in b if name not in a]
    matcher = SequenceMatcher(
        None, [a[name].structure for name in left], [b[name].structure for name in right], autojunk=False
    )
    for i, j, length in matcher.get_matching_blocks():
        partner.update(zip(right[j : j + length], left[i : i + length], strict=True))
    taken = set(partner.values())
    pairs: list[Pair] = []
    waiting = list(a)
    for name, facts in b.items():
        own = partner.get(name)
        if own is not None:
            while waiting and waiting[0] != own and waiting[0] not in taken:
                pairs.append((a[waiting.pop(0)], None))
            if waiting and waiting[0] == own:
                waiting.pop(0)
        pairs.append((None if own is None else a[own], facts))
    pairs.extend((a[name], None) for name in waiting if name not in taken)
    return pairs
