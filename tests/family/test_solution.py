import pytest
from family import families
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.family import Family

FEW = settings(max_examples=10, deadline=None)
FAMILY = Family(families.MLP, width=[16, 32], depth=[1, 2], input_shape=(6,))


def mlp_size(width, depth):
    return 7 * width + (depth - 1) * (width * width + width) + 10 * width + 10


def mlp_flops(width, depth):
    forward = 2 * (6 * width + (depth - 1) * width**2 + 10 * width)
    return 3 * forward - 12 * width


@FEW
@given(st.integers(100, 10**8), st.integers(2, 40))
def test_nearest_width_by_brute_force(target, depth):
    found = FAMILY.solve(parameters=target + mlp_size(1, depth), over="width", depth=depth)
    target += mlp_size(1, depth)
    width = found.hyperparameters["width"]
    around = range(max(1, width - 50), width + 50)
    best = min(around, key=lambda w: abs(mlp_size(w, depth) - target))
    assert width == best
    assert found.value == found.member.n == mlp_size(width, depth)
    assert found.distance == found.value - target
    assert found.above.value == mlp_size(width + 1, depth)
    assert found.below is None if width == 1 else found.below.value == mlp_size(width - 1, depth)


@FEW
@given(st.integers(10**4, 10**8))
def test_nearest_width_for_flops_by_brute_force(target):
    found = FAMILY.solve(flops=target, over="width", depth=3)
    assert found.hyperparameters["width"] == min(range(1, 6000), key=lambda w: abs(mlp_flops(w, 3) - target))
    assert found.value == found.member.forward_flops + found.member.backward_flops


@FEW
@given(st.integers(10**3, 10**6), st.integers(8, 70))
def test_ratio_by_brute_force(target, share):
    found = FAMILY.solve(parameters=target, ratio={"width": share, "depth": 1})
    path = [(w, int(w / share + 0.5)) for w in range(1, 4000) if int(w / share + 0.5) >= 1]
    best = min(path, key=lambda m: abs(mlp_size(*m) - target))
    assert tuple(found.hyperparameters.values()) == best


def test_depth_over_widths():
    found = FAMILY.solve(parameters=10**4, over=["depth", "width"])
    every = [(w, d) for w in (16, 32) for d in range(1, 500)]
    assert tuple(found.hyperparameters.values()) == min(every, key=lambda m: abs(mlp_size(*m) - 10**4))
    deep = FAMILY.solve(parameters=10**4, over=["depth", "width"], prefer="depth", within=0.02)
    assert deep.hyperparameters["width"] == 16
    shallow = FAMILY.solve(parameters=10**4, over=["depth", "width"], prefer="-depth", within=0.02)
    assert shallow.hyperparameters["width"] == 32


def test_memory_is_traced_and_nearest():
    found = FAMILY.solve(memory=3e6, over="width", depth=2)
    width = found.hyperparameters["width"]
    peaks = {w: FAMILY.space(width=w, depth=2).anatomy(1).peak_bytes for w in range(width - 3, width + 4)}
    assert min(peaks, key=lambda w: abs(peaks[w] - 3e6)) == width
    assert (found.value, found.law) == (peaks[width], "traced")
    assert (found.below.value, found.above.value) == (peaks[width - 1], peaks[width + 1])


def test_only_members_that_can_be_built():
    family = Family(families.ViT, width=[12, 24], depth=[1, 2], heads=3, input_shape=(3, 8, 8), memory=False)
    found = family.solve(parameters=50_000, over="width", depth=2)
    sizes = {w: family.space(width=w, depth=2).dimension for w in range(3, 150, 3)}
    assert found.hyperparameters["width"] == min(sizes, key=lambda w: abs(sizes[w] - 50_000))
    width = found.hyperparameters["width"]
    assert found.below.hyperparameters["width"] == width - 3
    assert found.above.hyperparameters["width"] == width + 3
    assert "width ≡ 0 (mod 3)" in found.law


class Rounded(nn.Module):
    """A width that is rounded up to a multiple of 8, as many networks do."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(6, -(-width // 8) * 8)
        self.last = nn.Linear(-(-width // 8) * 8, 3)

    def forward(self, x):
        return self.last(self.first(x))


class Grown(nn.Module):
    """No law in depth: each layer is twice as wide as the one before."""

    def __init__(self, depth):
        super().__init__()
        self.net = nn.Sequential(*(nn.Linear(2**i, 2 ** (i + 1)) for i in range(depth)))

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("target", [150, 800, 1234, 5000])
def test_between_the_members_of_a_law_each_is_tried(target):
    family = Family(Rounded, width=[16, 32, 64], input_shape=(6,), memory=False)
    found = family.solve(parameters=target)
    sizes = {w: 10 * (-(-w // 8) * 8) + 3 for w in range(1, 1000)}
    assert abs(found.distance) == min(abs(s - target) for s in sizes.values())


def test_without_a_law_members_are_traced():
    family = Family(Grown, depth=[1, 2, 3], input_shape=(1,), memory=False)
    assert not family.laws["n"].holds
    found = family.solve(parameters=40_000)
    sizes = [sum(2**i * 2 ** (i + 1) + 2 ** (i + 1) for i in range(d)) for d in range(1, 12)]
    assert found.hyperparameters["depth"] == 1 + min(range(11), key=lambda i: abs(sizes[i] - 40_000))
    assert found.law == "traced"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"over": "width"}, r"one target: parameters=, flops= or memory=; received none"),
        ({"parameters": 1e6, "flops": 1e6, "over": "width"}, r"received parameters, flops"),
        ({"parameters": -3, "over": "width"}, r"parameters must be a positive number; received -3"),
        ({"parameters": 1e6}, r"say what is unknown: over='width'.*width, depth"),
        ({"parameters": 1e6, "over": "width"}, r"depth left open: give depth=…"),
        ({"parameters": 1e6, "over": "widht", "depth": 2}, r"did you mean 'width'"),
        ({"parameters": 1e6, "over": "width", "width": 3, "depth": 2}, r"width is both unknown and given"),
        (
            {"parameters": 5, "over": "width", "depth": 2},
            r"parameters=5 is out of reach: the smallest member, width=1",
        ),
        ({"parameters": 1e6, "ratio": {"width": 1, "depth": 0}}, r"a ratio is of positive numbers"),
        (
            {"parameters": 1e6, "over": "width", "ratio": {"width": 1, "depth": 1}},
            r"the ratio is of width, depth",
        ),
        (
            {"parameters": 1e6, "over": "width", "depth": 2, "prefer": "depth"},
            r"prefer='depth' chooses among",
        ),
    ],
)
def test_questions_without_an_answer(arguments, says):
    with pytest.raises(ModelspaceError, match=says):
        FAMILY.solve(**arguments)


def test_unknowns_that_are_no_sizes():
    class Choice(nn.Module):
        def __init__(self, width, rate, seed):
            super().__init__()
            self.fc = nn.Linear(6, width)

        def forward(self, x):
            return self.fc(x)

    family = Family(Choice, width=[8, 16], rate=[0.1, 0.5], seed=[1, 2], input_shape=(6,), memory=False)
    with pytest.raises(ModelspaceError, match=r"rate takes no integers \(it is 0.1"):
        family.solve(parameters=100, over="rate", width=8, seed=1)
    with pytest.raises(ModelspaceError, match=r"parameters doesn't depend on seed"):
        family.solve(parameters=100, over="seed", width=8, rate=0.1)
    with pytest.raises(ModelspaceError, match=r"made with memory=False"):
        family.solve(memory=100, over="width", seed=1, rate=0.1)
    bare = Family(nn.Linear, in_features=[1, 2], out_features=3)
    with pytest.raises(ModelspaceError, match=r"made without input_shape"):
        bare.solve(flops=100)


def test_shrinking_is_refused():
    class Shrinking(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.fc = nn.Linear(6, max(1, 300 - layers))

        def forward(self, x):
            return self.fc(x)

    family = Family(Shrinking, layers=[1, 2, 3], input_shape=(6,), memory=False)
    with pytest.raises(ModelspaceError, match=r"parameters doesn't grow with layers: it is 2,093 at 1 and"):
        family.solve(parameters=5000)


def test_the_answer_is_readable():
    text = repr(FAMILY.solve(parameters=10_000, over="width", depth=2))
    assert text.splitlines()[0].startswith("width=9")
    assert "found by    n(width, depth) = width²·depth − width²" in text
    assert "below" in text
    assert "above" in text
