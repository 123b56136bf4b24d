import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import modelspace as ms
from modelspace.cost import diff
from modelspace.errors import ModelspaceError


class Net(nn.Module):
    def __init__(self, width=8, head="head", norm=False, tied=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        if norm:
            self.norm = nn.LayerNorm(width)
        self.add_module(head, nn.Linear(width, width))
        self.head_name = head
        self.last = nn.Linear(width, width)
        if tied:
            self.last.weight = getattr(self, head).weight

    def forward(self, x):
        x = self.body(x)
        if hasattr(self, "norm"):
            x = self.norm(x)
        return self.last(getattr(self, self.head_name)(x))


def kinds(found):
    return {change.name: change.kind for change in found.changes}


def test_an_architecture_is_equal_to_itself():
    found = diff(Net, Net, input_shape=(4,))
    assert found.equal
    assert found.changes == ()
    assert found.same == len(list(Net().modules())) == found.totals["modules"][0]
    assert "no difference in structure and cost" in repr(found)


def test_a_width_changes_shapes_counts_and_costs():
    found = diff(Net, Net, input_shape=(4,), arguments=({"width": 8}, {"width": 16}), batch_size=2)
    a, b = (4 * w + w + 2 * (w * w + w) for w in (8, 16))
    assert found.totals["parameters"] == found.totals["trainable"] == (a, b)
    assert found.totals["forward_flops"] == tuple(2 * 2 * (4 * w + 2 * w * w) for w in (8, 16))
    assert kinds(found) == {"body": "changed", "body.0": "changed", "body.1": "changed", "head": "changed",
                            "last": "changed", "": "changed"}  # fmt: skip
    first = next(change for change in found.changes if change.name == "body.0")
    assert first.what["weight"] == ("8×4 float32", "16×4 float32")
    assert first.what["output"] == ("2×8", "2×16")
    assert first.what["FLOP forward"] == (f"{2 * 2 * 32}", f"{2 * 2 * 64}")
    assert found.titles == ("Net(width=8)", "Net(width=16)")


def test_a_module_more():
    found = diff(Net, Net, input_shape=(4,), arguments=({}, {"norm": True}))
    assert kinds(found) == {"norm": "added"}
    assert found.totals["parameters"][1] - found.totals["parameters"][0] == 16
    back = diff(Net, Net, input_shape=(4,), arguments=({"norm": True}, {}))
    assert kinds(back) == {"norm": "removed"}


def test_what_was_removed_at_the_end():
    found = diff(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3)))
    # The first layer's output is now the net's own, and stays alive as that.
    removed = {name for name, kind in kinds(found).items() if kind == "removed"}
    assert removed == {"1", "2"}


def test_the_same_modules_with_another_peak():
    def made(copies):
        class Net(nn.Linear):
            def forward(self, x):
                x.repeat(copies, 1).sum()
                return super().forward(x)

        return Net(3, 2)

    found = diff(made(1), made(10_000), input_shape=(3,))
    assert found.changes == ()
    assert found.totals["peak_bytes"][1] > 10_000 * 3 * 4 > found.totals["peak_bytes"][0]
    assert not found.equal


def test_a_renamed_part_is_found_by_its_structure():
    found = diff(Net, Net, input_shape=(4,), arguments=({}, {"head": "classifier"}))
    (change,) = found.changes
    assert (change.kind, change.before, change.name) == ("renamed", "head", "classifier")
    assert not found.equal


def test_what_is_inside_an_added_module_is_said_once():
    old = nn.Sequential(nn.Linear(3, 3))
    new = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    found = diff(old, new, input_shape=(3,))
    assert kinds(found) == {"1": "added", "1.0": "added", "1.1": "added"}
    listed = [line for line in repr(found).splitlines() if line.startswith("+")]
    assert listed == ["+ 1 (Sequential)"]


def test_ties_frozen_ones_types_and_arguments():
    assert diff(Net, Net, input_shape=(4,), arguments=({}, {"tied": True})).ties == (
        ("last.weight", "head.weight", "second"),
    )
    half = diff(nn.Linear(3, 2), nn.Linear(3, 2, dtype=torch.float64))
    assert half.changes[0].what["weight"] == ("2×3 float32", "2×3 float64")
    frozen = diff(nn.Linear(3, 2), nn.Linear(3, 2).requires_grad_(False))
    assert frozen.changes[0].what["weight"] == ("2×3 float32", "2×3 float32 frozen")
    assert frozen.totals["frozen"] == (0, 8)
    rate = diff(
        nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1)), nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    )
    assert rate.changes[0].what["arguments"] == ("p=0.1, inplace=False", "p=0.5, inplace=False")


def test_values_are_not_compared():
    assert diff(nn.Linear(3, 2), nn.Linear(3, 2)).equal


def test_two_spaces():
    a = ms.ModelSpace(Net, input_shape=(4,), width=8)
    b = ms.ModelSpace(Net, input_shape=(4,), width=9)
    assert ms.diff(a, b).titles == ("Net(width=8)", "Net(width=9)")


def test_without_an_input_the_structure_is_compared_and_the_reason_said():
    class Two(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.fc = nn.Linear(3, width)

        def forward(self, x, y):
            return self.fc(x) + y

    found = diff(Two(2), Two(4))
    assert "forward_flops" not in found.totals
    assert "don't tell what it takes" in found.untraced
    assert "costs are not compared" in repr(found)
    with pytest.raises(ModelspaceError, match="Two"):
        diff(Two(2), Two(4), input_shape=(3,))


def test_html_is_escaped():
    class Hostile(nn.Linear):
        def extra_repr(self):
            return "<script>alert(1)</script>"

    page = diff(Hostile(3, 2), nn.Linear(3, 2))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


# A layer's kind is its width; a net is a list of them under names a, b, c …
layers = st.lists(st.integers(1, 3), min_size=1, max_size=6)


def chain(widths, names):
    net = nn.Module()
    for name, width in zip(names, widths, strict=False):
        net.add_module(name, nn.Linear(width, width))
    net.add_module("forward_is_missing", nn.Identity())
    return net


@settings(deadline=None, max_examples=25)
@given(layers, layers, st.permutations("uvwxyz"))
def test_every_module_is_in_exactly_one_pair(first, second, names):
    found = diff(chain(first, "abcdef"), chain(second, names))
    a = [change for change in found.changes if change.before is not None]
    b = [change for change in found.changes if change.kind != "removed"]
    assert len({change.before for change in a}) == len(a)
    assert len({change.name for change in b}) == len(b)
    assert found.same + len(a) == len(first) + 2
    assert found.same + len(b) == len(second) + 2
    # No name is shared, so a pair is a layer of the same kind; the best one can do is what both have.
    renamed = [change for change in found.changes if change.kind == "renamed"]
    assert all(change.parameters[0] == change.parameters[1] for change in renamed)
    assert len(renamed) <= sum(min(first.count(k), second.count(k)) for k in (1, 2, 3))
