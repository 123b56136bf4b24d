"""What a pass costs that shapes alone don't tell: sparse operands, and forwards that read values."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import modelspace as ms
from modelspace.cost import Spec, anatomy, training_memory
from modelspace.errors import ModelspaceError

# Entry (i, i + 1), and (i, i + 2) for the first five.
ROWS = torch.cat([torch.arange(20), torch.arange(5)])
COLUMNS = torch.cat([(torch.arange(20) + 1) % 20, torch.arange(5) + 2])
STORED = 25


def adjacency(layout):
    with torch.sparse.check_sparse_tensor_invariants(True):
        dense = torch.zeros(20, 20).index_put((ROWS, COLUMNS), torch.tensor(1.0))
        return dense.to_sparse() if layout == "coo" else getattr(dense, f"to_sparse_{layout}")()


class Propagates(nn.Module):
    """W ↦ f(A, W) with a sparse buffer A of 20 × 20 and W of 20 × 4."""

    def __init__(self, function, layout="coo", shape=(20, 4)):
        super().__init__()
        self.function = function
        self.register_buffer("a", adjacency(layout))
        self.w = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        return self.function(self.a, self.w)


PRODUCTS = {
    "mm": (torch.mm, (20, 4), 4),
    "spmm": (torch.spmm, (20, 4), 4),
    "sparse.mm": (torch.sparse.mm, (20, 4), 4),
    "matmul": (torch.matmul, (20, 4), 4),
    "addmm": (lambda a, w: torch.addmm(w.detach(), a, w), (20, 4), 4),
    "sparse.addmm": (lambda a, w: torch.sparse.addmm(w.detach(), a, w), (20, 4), 4),
    "mv": (torch.mv, (20,), 1),
    "dense @ sparse": (lambda a, w: w @ a, (3, 20), 3),
    "linear": (lambda a, w: nn.functional.linear(w, a), (3, 20), 3),
}


@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant)")
@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_sparse_operand_costs_what_it_stores(name, layout):
    function, shape, columns = PRODUCTS[name]
    found = ms.inspect(Propagates, (1,), function=function, layout=layout, shape=shape)
    flops = 2 * STORED * columns
    assert (found.anatomy.forward_flops, found.anatomy.backward_flops) == (flops, flops)
    assert found.counts.buffers == STORED
    assert found.anatomy.computed == "it holds sparse tensors: counted on made-up inputs (all ones)"


def test_two_sparse_operands_cost_the_pairs_that_meet():
    found = anatomy(Propagates(lambda a, w: torch.sparse.mm(torch.sparse.mm(a, a), w)), (1,))
    dense = adjacency("coo").to_dense()
    pairs, between = int((dense @ dense).sum()), int((dense @ dense).count_nonzero())
    assert found.forward_flops == 2 * pairs + 2 * between * 4


def test_bytes_of_a_sparse_buffer_are_those_of_its_indices_and_values():
    held = ms.inspect(Propagates(torch.mm), (1,)).counts
    assert held.buffer_bytes == {torch.int64: 2 * STORED * 8, torch.float32: STORED * 4}


def test_a_sparse_operand_made_in_the_forward_is_not_taken_for_empty():
    class Gram(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(8, 3, bias=False)

        def forward(self, x):
            return torch.sparse.mm((x @ x.T).to_sparse(), self.h(x))

    found = anatomy(Gram(), (8,), batch_size=4)
    gram, linear, spread = 2 * 4 * 4 * 8, 2 * 4 * 8 * 3, 2 * 16 * 3
    assert (found.forward_flops, found.backward_flops) == (gram + linear + spread, linear + spread)


class Bag(nn.Module):
    def __init__(self, kind=nn.Embedding, sparse=True, rows=1000):
        super().__init__()
        self.e, self.h = kind(rows, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x):
        rows = self.e(x)
        return self.h(rows if rows.ndim == 2 else rows.mean(1))


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("shape", [(6,), None], ids=["given", "guessed"])
def test_sparse_gradients_of_a_table(kind, shape):
    found = ms.inspect(Bag, shape, kind=kind, optimizer="sgd")
    assert (found.anatomy.forward_flops, found.anatomy.backward_flops) == (2 * 4 * 3, 2 * 2 * 4 * 3)
    assert found.anatomy.device == "fake"


def test_an_optimizer_that_refuses_sparse_gradients_is_named():
    with pytest.raises(
        ModelspaceError, match=r"Adam does not support sparse gradients.*layers without sparse=True"
    ):
        training_memory(Bag(), (6,), input_dtype=torch.long, optimizer="adam")


class Text(nn.Module):
    def __init__(self, vocabulary=20):
        super().__init__()
        self.e = nn.Embedding(vocabulary, 4, padding_idx=0)
        self.r = nn.GRU(4, 6, batch_first=True)

    def forward(self, x):
        lengths = (x != 0).sum(1).cpu()
        return self.r(pack_padded_sequence(self.e(x), lengths, batch_first=True, enforce_sorted=False))[1][0]


A_TOKEN = 2 * 3 * 6 * (4 + 6)


def test_texts_have_their_full_length_where_nothing_is_known_of_them():
    found = ms.inspect(Text, (7,))
    assert found.anatomy.forward_flops == 7 * A_TOKEN
    assert found.anatomy.computed == "its forward reads values: counted on made-up inputs (all ones)"
    assert found.anatomy.computed in repr(found)
    assert (
        ms.ModelSpace(Text, input_shape=(7,), input_dtype=torch.long).anatomy().forward_flops == 7 * A_TOKEN
    )


def test_texts_of_one_s_own():
    texts = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0], [1, 1, 1, 1]])
    found = ms.inspect(Text, texts, batch_size=2).anatomy
    assert (found.forward_flops, found.computed) == (
        3 * A_TOKEN,
        "its forward reads values: counted on the inputs given",
    )
    # A batch of more goes round: 2 + 1 + 4 + 2 tokens.
    assert ms.inspect(Text, texts, batch_size=4).anatomy.forward_flops == 9 * A_TOKEN
    with pytest.raises(ModelspaceError, match=r"one or more of them; received shape \[0, 4\]"):
        ms.inspect(Text, texts[:0])


def test_drawn_tokens_are_below_their_number_and_the_same_each_time():
    tokens = Spec((50,), torch.long, below=3)
    counted = [ms.inspect(Text, tokens, batch_size=4).anatomy.forward_flops for _ in range(2)]
    assert counted[0] == counted[1]
    # A third of them is padding; the sum of 200 tosses is within six standard deviations.
    assert abs(counted[0] / A_TOKEN - 200 * 2 / 3) < 40


def test_a_table_of_one_row_has_only_row_zero():
    class Reads(Bag):
        def forward(self, x):
            return super().forward(x * 0 if x.sum().item() > 1e6 else x)

    found = ms.inspect(Reads, (6,), rows=1).anatomy
    assert found.computed.endswith("made-up inputs (all zeros)")


class Sevens(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(4, 3)

    def forward(self, x):
        if x.sum().item() != 7:
            raise ValueError("samples add up to 7")
        return self.h(x)


def test_a_forward_that_fails_on_made_up_inputs_says_whose_they_were():
    message = r"add up to 7.*reads values, and the inputs were made up \(all ones\): give samples in place of"
    with pytest.raises(ModelspaceError, match=message):
        ms.inspect(Sevens, (4,))
    assert ms.inspect(Sevens, torch.tensor([[7.0, 0, 0, 0]])).anatomy.forward_flops == 24
    with pytest.raises(ModelspaceError, match=r"add up to 7(?!.*made up)"):
        ms.inspect(Sevens, torch.zeros(1, 4))


def test_a_forward_that_fails_for_its_shape_does_not_blame_values():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(5, 3)

        def forward(self, x):
            raise NotImplementedError("not yet")

    with pytest.raises(ModelspaceError, match=r"not yet(?!.*made up)"):
        ms.inspect(Wrong, (5,))


def test_values_of_a_class_are_those_of_seed_zero_not_zeros():
    class Repeats(nn.Module):
        def __init__(self):
            super().__init__()
            self.times, self.h = nn.Parameter(torch.tensor(3.0)), nn.Linear(4, 4)

        def forward(self, x):
            for _ in range(int(self.times.item())):
                x = self.h(x)
            return x

    assert ms.inspect(Repeats, (4,)).anatomy.forward_flops == 3 * 32
    assert ms.ModelSpace(Repeats, input_shape=(4,)).anatomy().forward_flops == 3 * 32
    assert ms.diff(Repeats, Repeats, input_shape=(4,)).totals["forward_flops"] == (96, 96)
