import pytest
from torch import nn

from modelspace.cost import anatomy, inspect, training_memory, tree


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return self.fc(self.fc(x)) @ self.fc.weight


def block(width=6):
    return nn.Sequential(nn.Linear(width, width), nn.Tanh())


def test_alike_blocks_in_a_row_are_one():
    net = nn.Sequential(*[block() for _ in range(4)], nn.Linear(6, 8), *[block(8) for _ in range(2)])
    root = tree(anatomy(net, (6,)))
    assert [(n.label, n.times) for n in root.children] == [("0–3", 4), ("4", 1), ("5–6", 2)]
    first = root.children[0]
    assert (first.parameters, first.flops) == (6 * 6 + 6, 2 * 6 * 6)
    assert [n.type for n in first.children] == ["Linear", "Tanh"]


def test_unlike_neighbours_stay_apart():
    net = nn.Sequential(block(), nn.Sequential(nn.Linear(6, 6, bias=False), nn.Tanh()), block())
    assert [n.times for n in tree(anatomy(net, (6,))).children] == [1, 1, 1]


@pytest.mark.parametrize("fold", [True, False])
def test_a_line_includes_what_is_below_it(fold):
    net = nn.Sequential(nn.Linear(6, 6), *[nn.Sequential(block(), block()) for _ in range(3)], Twice())
    record = anatomy(net, (6,), batch_size=2)
    root = tree(record, fold=fold)
    assert root.parameters == sum(p.numel() for p in net.parameters())
    assert (root.flops, root.backward_flops) == (record.forward_flops, record.backward_flops)
    assert root.saved_bytes == sum(call.saved_bytes for call in record.calls)
    for node in root.walk():
        for quantity in ("parameters", "flops", "saved_bytes", "bytes"):
            below = sum(getattr(child, quantity) * child.times for child in node.children)
            assert getattr(node, quantity) == node.own[quantity] + below


def test_a_module_called_again_has_no_parameters_left():
    root = tree(anatomy(Twice(), (6,)))
    assert [(n.label, n.again, n.parameters) for n in root.children] == [("fc", False, 42), ("fc", True, 0)]
    assert root.own["flops"] == 2 * 6 * 6


def test_a_call_again_is_no_further_one_of_a_row():
    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Tanh()])

        def forward(self, x):
            return self.layers[0](self.layers[0](x))

    root = tree(anatomy(Row(), (6,)))
    assert [(n.label, n.times, n.again) for n in root.children] == [
        ("layers.0", 1, False),
        ("layers.0", 1, True),
    ]


def test_bytes_at_the_peak_add_up_to_what_modules_hold():
    net = nn.Sequential(*[block() for _ in range(3)])
    step = training_memory(net, (6,), batch_size=5)
    root = tree(anatomy(net, (6,), batch_size=5), step.by_module)
    assert root.children[0].times == 3
    held = sum(bytes for name, bytes in step.by_module.items() if name is not None)
    # Of three alike blocks the tree shows the mean, rounded.
    assert root.peak_bytes == held


def test_what_stands_out():
    net = nn.Sequential(nn.Linear(4, 90), nn.ReLU(), nn.Linear(90, 2))
    sentences = inspect(net, (4,), batch_size=10).highlights()
    assert len(sentences) == 3
    assert sentences[0] == "0 (Linear) holds 71 % of the parameters: 450 of 632"
    # ReLU's backward needs its 90 outputs alone; with the 2 at the end, of 4 bytes and 10 samples each.
    assert pytest.approx(3.6, abs=0.05) == 4 * 10 * (90 + 2) / 1024
    assert sentences[1].startswith("3.6 KiB of activations wait for the backward; 1 (ReLU) keeps most")
    frozen = inspect(nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)), (4,)).highlights()
    assert any("50 % of the parameters are frozen" in sentence for sentence in frozen)


def test_what_may_hide_products_comes_first():
    class Hidden(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.matrix_exp()

    assert inspect(Hidden(4, 4), (4, 4)).highlights()[0].startswith("not counted, and may hide products: ")


def test_the_text_shows_every_line_and_any_column():
    net = nn.Sequential(*[nn.Sequential(block(), block()) for _ in range(5)])
    shown = inspect(net, (6,)).text(columns=("parameters", "backward", "intensity"), depth=2)
    lines = shown.splitlines()
    assert any(line.startswith("└─ 0–4 × 5") and "5 × 84" in line for line in lines)
    assert any(line.startswith("   └─ 0–1 × 2") for line in lines)
    assert not any("Tanh" in line for line in lines if line.lstrip(" │").startswith(("├", "└")))
    assert any("Tanh" in line for line in inspect(net, (6,)).text(depth=3).splitlines())
    assert "a multiply-and-add is two; a MAC is FLOP / 2" in shown


def test_sorted_lines_are_each_layer_s_own():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 50), nn.Linear(50, 2)))
    lines = inspect(net, (3,)).text(sort="parameters").splitlines()
    order = [line.split()[0] for line in lines if " Linear " in line]
    assert order == ["1.0", "1.1", "0"]


def test_the_first_of_alike_blocks_needs_no_gradient_of_its_input():
    root = tree(anatomy(nn.Sequential(*[nn.Linear(6, 6) for _ in range(5)]), (6,)))
    (node,) = root.children
    product = 2 * 6 * 6
    assert root.backward_flops == product + 4 * 2 * product
    assert (node.times, node.backward_flops) == (5, round(9 * product / 5))
