"""Published counts of whole models, and ours of the same models: see README.md beside it for the sources."""

import csv
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path
from unittest import mock

import torch
from support.zoo import without_torchvision_s_library

from modelspace.cost import Spec, anatomy, built, counts

# Kept: the library forgets what was defined in it when it goes.
LIBRARY = without_torchvision_s_library()
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One published figure.

    Attributes:
        model: The model's name.
        value: Parameters, or GMAC.
        digits: Digits behind the point that the table has.
        size: The side of its images; 0 where the figure does not depend on it.
    """

    model: str
    value: float
    digits: int
    size: int = 0

    def __str__(self):
        return f"{self.model} at {self.size}" if self.size else self.model


def table(name, value, digits):
    with (FOLDER / name).open(newline="") as lines:
        return [
            Row(line["model"], float(line[value]), digits, int(line.get("size") or 0))
            for line in csv.DictReader(lines)
        ]


def timm_parameters():
    return table("timm_parameters.csv", "millions", 2)


def timm_gmacs():
    return table("timm_gmacs.csv", "gmacs", 2)


def quietly(make):
    """A model for inference, with nothing allocated where it can be; what its package warns of is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return built(make).eval()


def timm_model(name, size=0, **changes):
    """A model of timm, for images of another size where it must be told."""
    import timm

    settings = timm.get_pretrained_cfg(name)
    told = size and settings.fixed_input_size and tuple(settings.input_size[1:]) != (size, size)
    arguments = {"img_size": size} if told else {}
    return quietly(lambda: timm.create_model(name, **arguments, **changes))


def timm_written_out(name, size=0):
    """A model whose attention is of products and softmax, not PyTorch's fused function."""
    from timm.layers import set_fused_attn, use_fused_attn

    before = use_fused_attn()
    set_fused_attn(False)
    try:
        return timm_model(name, size)
    finally:
        set_fused_attn(before)


def timm_fused(name):
    """A model as timm's benchmark fuses it for inference: this takes its values."""
    import timm
    from timm.utils.model import reparameterize_model

    return reparameterize_model(timm.create_model(name).eval())


# At the table's commit timm/models/resnet.py builds it with the layers of ecaresnext26t_32x4d.
REGISTERED_THEN = {"ecaresnext50t_32x4d": {"layers": (2, 2, 2, 2)}}


def timm_then(name, size=0):
    """A model as timm had it when the table was made; None where it is the same today."""
    return timm_model(name, size, **REGISTERED_THEN[name]) if name in REGISTERED_THEN else None


def torchvision_weights():
    """Each of torchvision's published sets of weights with its builder's name."""
    from torchvision import models

    return [(name, weights) for name in models.list_models() for weights in models.get_model_weights(name)]


def torchvision_model(name, weights):
    """The model that a set of weights is for, with everything that its builder changes for them, but not loaded."""
    from torchvision import models
    from torchvision.models._api import WeightsEnum

    builder = models.get_model_builder(name)
    if name.startswith("quantized_"):
        # Quantised parameters are packed and can't be counted: its figures are of the model before.
        # GoogLeNet's trained weights leave it without the heads that only training uses.
        arguments = {"aux_logits": False} if name == "quantized_googlenet" else {}
        return quietly(lambda: builder(**arguments))
    with (
        mock.patch.object(WeightsEnum, "get_state_dict", return_value={}),
        mock.patch.object(torch.nn.Module, "load_state_dict", return_value=None),
    ):
        return quietly(lambda: builder(weights=weights))


def parameters(model):
    return counts(model).parameters


@dataclass(frozen=True)
class Found:
    """Our count of a forward on one sample, in 10⁹, and what fvcore, which made timm's table, counts otherwise.

    Attributes:
        gmacs: Half the FLOP.
        elements: What fvcore adds as if it were MAC: for each element of a BatchNorm 2, of a LayerNorm or GroupNorm
            5, of an image enlarged from nearest pixels 1, bilinearly 4.
        same: Of our count what convolutions with ``padding="same"`` take, which fvcore leaves out.
        recurrent: Of our count what recurrent layers take, which fvcore leaves out.
    """

    gmacs: float
    elements: float
    same: float = 0.0
    recurrent: float = 0.0

    @property
    def fvcore(self):
        """What its counter should have found."""
        return self.gmacs + self.elements - self.same - self.recurrent


_ELEMENTS = {
    "batch_norm": 2,
    "layer_norm": 5,
    "group_norm": 5,
    "aten.upsample_nearest2d": 1,
    "aten.upsample_bilinear2d": 4,
}


def traced(model, *shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = next(p.dtype for p in model.parameters())
        record = anatomy(model, inputs=Spec((1, *shape), kind), backward=False)
    elements = sum(
        weight * operation.times * prod(operation.output_shape)
        for operation in record.operations
        for name, weight in _ELEMENTS.items()
        if name in operation.name
    )
    layers = dict(model.named_modules())

    def taken(chosen):
        return sum(call.flops for call in record.calls if chosen(layers.get(call.name))) / 2e9

    return Found(
        record.forward_flops / 2e9,
        elements / 1e9,
        same=taken(lambda layer: getattr(layer, "padding", None) == "same"),
        recurrent=taken(lambda layer: isinstance(layer, torch.nn.RNNBase)),
    )


def near(found, row, relative=0.02):
    """Within the tolerance, or within what rounding of the table hides."""
    return abs(found - row.value) <= max(relative * row.value, 0.51 * 10.0**-row.digits)
