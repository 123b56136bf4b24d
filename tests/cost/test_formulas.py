"""FLOP of operations that PyTorch's own counter lacks, by closed form or by its count of the plain products."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import modelspace as ms
from modelspace.cost import Spec, anatomy, register_flop_formula
from modelspace.cost._formulas import all_formulas
from modelspace.errors import ModelspaceError


class Function(nn.Module):
    """A module whose forward is a function of parameters of the given shapes and of its inputs."""

    def __init__(self, function, *shapes, dtype=torch.float32):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes)

    def forward(self, *inputs):
        return self.function(*self.weights, *inputs)


B, T, E, H = 3, 7, 5, 4


@pytest.mark.parametrize(
    ("function", "shapes", "inputs", "flops"),
    [
        (torch.mv, [(3, 4)], [(4,)], 2 * 12),
        (torch.addmv, [(3,), (3, 4)], [(4,)], 2 * 12),
        (torch.dot, [(9,)], [(9,)], 2 * 9),
        (torch.addbmm, [(3, 5), (2, 3, 4)], [(2, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (F.bilinear, [], [(B, 4), (B, 5), (2, 4, 5)], 2 * B * 2 * 4 * 5 + 2 * B * 2 * 5),
        (lambda a, x: torch.einsum("bi,ij->bj", x, a), [(4, 5)], [(B, 4)], 2 * B * 4 * 5),
        (
            lambda a, x: torch.einsum("bhid,bhjd->bhij", x, a),
            [(2, 3, 4, 5)],
            [(2, 3, 6, 5)],
            2 * 6 * 6 * 4 * 5,
        ),
        (torch.inner, [(3, 4)], [(5, 4)], 2 * 3 * 4 * 5),
        (torch.tensordot, [(3, 4, 5)], [(4, 5, 6)[::-1]], None),
    ],
    ids=["mv", "addmv", "dot", "addbmm", "bilinear", "einsum", "einsum attention", "inner", "tensordot"],
)
def test_products(function, shapes, inputs, flops):
    if function is torch.tensordot:
        function, inputs, flops = (lambda a, x: torch.tensordot(a, x, 2)), [(4, 5, 6)], 2 * 3 * 4 * 5 * 6
    record = anatomy(Function(function, *shapes), inputs=tuple(Spec(shape) for shape in inputs))
    assert record.forward_flops == flops
    assert not record.unknown


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (torch.mm, [(3, 4), (4, 5)]),
        (torch.bmm, [(2, 3, 4), (2, 4, 5)]),
        (torch.mv, [(3, 4), (4,)]),
        (torch.dot, [(9,), (9,)]),
        (torch.vdot, [(9,), (9,)]),
        (lambda a, b: torch.addmm(0 * b[0], a, b), [(3, 4), (4, 5)]),
        (lambda a, b: torch.baddbmm(0 * b[:, :1], a, b), [(2, 3, 4), (2, 4, 5)]),
        (F.linear, [(3, 4), (5, 4)]),
        (torch.matmul, [(7, 1, 3, 4), (2, 4, 5)]),
        (lambda x, w: torch.einsum("bixy,ioxy->boxy", x, w), [(3, 4, 2, 3), (4, 5, 2, 3)]),
    ],
)
def test_a_complex_multiply_and_add_is_eight_in_every_product(function, shapes):
    # On ones each multiply-and-add adds one to the sum.
    multiply_and_adds = int(function(*(torch.ones(shape) for shape in shapes)).sum())
    complex_ones = Function(function, *shapes, dtype=torch.complex64)
    assert anatomy(complex_ones, inputs=(), backward=False).forward_flops == 8 * multiply_and_adds
    assert (
        anatomy(Function(function, *shapes), inputs=(), backward=False).forward_flops == 2 * multiply_and_adds
    )


def test_complex_layers_are_inspected_on_complex_samples():
    for shape in ((4,), None):
        found = ms.inspect(nn.Linear(4, 3, dtype=torch.complex64), shape)
        assert (found.anatomy.forward_flops, str(found.sample)) == (8 * 12, "4 complex")
    spectral = nn.Sequential(nn.Linear(4, 4), Function(lambda x: x.to(torch.complex64)))
    assert ms.inspect(spectral, (4,)).anatomy.forward_flops == 2 * 16


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=str)
@pytest.mark.parametrize("groups", [2, 1])
def test_attention_costs_the_same_on_every_backend(backend, groups):
    def attend(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=groups == 1)

    shapes = [(B, 2, T, E), (B, groups, H, E), (B, groups, H, E)]
    record = anatomy(Function(attend, *shapes), inputs=())
    assert record.forward_flops == 2 * 2 * B * 2 * T * H * E
    # Gradients of Q, K, V and the weights; a fused kernel computes QKᵀ again.
    assert record.backward_flops == record.forward_flops * (2 if backend is SDPBackend.MATH else 5 / 2)


@pytest.mark.parametrize("backend", ["flash", "efficient", "cudnn", "fused_attention_overrideable"])
def test_attention_kernels_of_other_devices_have_formulas(backend):
    name = backend if backend.startswith("fused") else f"{backend}_attention"
    operation = getattr(torch.ops.aten, f"_scaled_dot_product_{name}")
    q, k = torch.empty(B, 2, T, E), torch.empty(B, 2, H, E)
    assert all_formulas()[operation](q, k, k, out_val=(q,)) == 4 * B * 2 * T * H * E
    back = getattr(torch.ops.aten, f"_scaled_dot_product_{name}_backward")
    assert all_formulas()[back](q, q, k, k, out_val=(q, k, k)) == 10 * B * 2 * T * H * E


def test_heads_that_share_keys_cost_as_much_as_heads_that_do_not():
    formula = all_formulas()[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu]
    q, k = torch.empty(B, 8, T, E), torch.empty(B, 2, H, E)
    assert formula(q, k, k, out_val=(q,)) == 4 * B * 8 * T * H * E


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_meet_one_matrix_a_row(dtype):
    def experts(weight, x):
        return torch._grouped_mm(x, weight, offs=torch.tensor([8, 16, 24, 32], dtype=torch.int32))

    module = Function(experts, (4, 16, 8), dtype=dtype)
    record = anatomy(module, inputs=Spec((32, 16), dtype))
    assert record.forward_flops == 2 * 32 * 16 * 8
    assert record.backward_flops == 2 * 32 * 16 * 8
    assert record.device == "fake"


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers(kind, bidirectional):
    layer = getattr(nn, kind)(E, H, num_layers=2, bidirectional=bidirectional, batch_first=True)
    ways = 1 + bidirectional
    matrices = ways * GATES[kind] * H * ((E + H) + (ways * H + H))
    record = anatomy(layer, (T, E), batch_size=B)
    assert record.forward_flops == 2 * B * T * matrices
    # All products again for the weights and again for the inputs, but not into the batch.
    assert record.backward_flops <= 2 * record.forward_flops
    assert record.backward_flops >= 2 * record.forward_flops - 4 * B * T * ways * GATES[kind] * H * (E + H)


def test_a_projected_lstm():
    record = anatomy(nn.LSTM(E, H, proj_size=2, batch_first=True), (T, E), batch_size=B)
    assert record.forward_flops == 2 * B * T * (4 * H * (E + 2) + 2 * H)


@pytest.mark.parametrize("kind", GATES)
def test_recurrent_cells(kind):
    record = anatomy(getattr(nn, f"{kind}Cell")(E, H), (E,), batch_size=B)
    assert record.forward_flops == 2 * B * GATES[kind] * H * (E + H)


def test_packed_sequences_are_counted_by_their_tokens():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(E, H, batch_first=True)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.rnn(packed)[0].data

    lengths = torch.tensor([7, 2, 4])
    record = anatomy(Packed(), inputs=(Spec((B, T, E)), lengths))
    assert record.forward_flops == 2 * int(lengths.sum()) * 4 * H * (E + H)
    assert record.device == "cpu"


def test_the_fused_encoder_layer_costs_what_its_parts_do():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    parts = anatomy(layer, (T, 16), batch_size=B)
    fused = anatomy(layer, (T, 16), batch_size=B, backward=False)
    assert [o.name for o in fused.operations] == ["aten._transformer_encoder_layer_fwd"]
    assert fused.forward_flops == parts.forward_flops
    assert fused.forward_flops == 2 * B * T * (4 * 16 * 16 + 2 * 16 * 32) + 4 * B * T * T * 16


def test_fused_attention_with_its_projections():
    layer = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x = Spec((B, T, 16))
    record = anatomy(layer, inputs=(x, x, x), backward=False)
    assert record.forward_flops == 2 * B * T * 4 * 16 * 16 + 4 * B * T * T * 16


@pytest.fixture(scope="module")
def custom():
    @torch.library.custom_op("modelspace_tests::gram", mutates_args=())
    def gram(x: torch.Tensor) -> torch.Tensor:
        return x @ x.T

    @gram.register_fake
    def _(x):
        return x.new_empty(x.shape[0], x.shape[0])

    return torch.ops.modelspace_tests.gram


def test_a_custom_operation_is_uncounted_until_it_has_a_formula(custom):
    module = Function(lambda x: custom(x))
    without = anatomy(module, inputs=Spec((6, 5)), backward=False)
    assert (without.forward_flops, without.unknown) == (0, {"modelspace_tests.gram": 1})

    def formula(shape, *, out_shape):
        return 2 * shape[0] * shape[0] * shape[1]

    given = anatomy(module, inputs=Spec((6, 5)), backward=False, flop_formulas={custom: formula})
    assert (given.forward_flops, given.uncounted) == (360, {})
    register_flop_formula(custom.default, formula)
    assert anatomy(module, inputs=Spec((6, 5)), backward=False).forward_flops == 360


def test_an_operation_without_a_shape_function_is_computed():
    @torch.library.custom_op("modelspace_tests::shapeless", mutates_args=())
    def shapeless(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    record = anatomy(nn.Sequential(nn.Linear(4, 2), Function(lambda x: shapeless(x))), (4,), backward=False)
    assert (record.device, record.forward_flops) == ("cpu", 16)
    assert record.unknown == {"modelspace_tests.shapeless": 1}


def test_what_is_no_formula_is_refused():
    with pytest.raises(
        ModelspaceError, match=r"belongs to an operation, torch\.ops\.library\.name; received 'mm'"
    ):
        register_flop_formula("mm", len)
    with pytest.raises(ModelspaceError, match="is a function of shapes; received 3"):
        anatomy(nn.Linear(2, 2), (2,), flop_formulas={torch.ops.aten.mm: 3})


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2), (4, 9)),
        (nn.ConvTranspose2d(3, 5, 3, stride=2), (3, 6, 6)),
        (nn.Conv3d(2, 4, 2, dilation=2), (2, 6, 6, 6)),
        (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.Flatten()), (3, 5, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_convolutions_as_pytorch_counts_them_on_real_tensors(module, shape):
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = module(torch.zeros(2, *shape))
        forward = counter.get_total_flops()
        outputs.sum().backward()
    record = anatomy(module, shape, batch_size=2)
    assert (record.forward_flops, record.backward_flops) == (forward, counter.get_total_flops() - forward)
