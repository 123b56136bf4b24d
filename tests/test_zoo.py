"""``verify`` on real architectures: timm's and Hugging Face's, unmodified, and PEFT's adapters."""

import pytest
from support import zoo

import modelspace as ms

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def entries(package, make):
    try:
        library = zoo.without_torchvision_s_library()
        found = make()
    except ImportError:
        why = pytest.mark.skip(reason=f"{package} is not installed: pip install 'torch-modelspace[zoo]'")
        return [pytest.param(None, id=package, marks=why)]
    _LIBRARIES.append(library)
    return [pytest.param(entry, id=str(entry)) for entry in found]


_LIBRARIES = []
ENTRIES = [
    *entries("timm", zoo.timm_models),
    *entries("transformers", zoo.hugging_face),
    *entries("peft", lambda: [zoo.adapted()]),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_population_is_the_plain_loop(entry):
    space = ms.ModelSpace(entry.make, input_shape=entry.shape, **kind(entry))
    found = ms.verify(space, members=2, steps=3, batch_size=3, tokens=entry.tokens)
    print(
        f"\n{entry}: n = {found.dimension:,}, {found.lowering} {', '.join(found.fallbacks)} "
        + " ".join(f"{each.dtype} {each.largest:.1e}" for each in found.errors)
    )
    assert found.equivalent, repr(found)


def kind(entry):
    import torch

    return {"input_dtype": torch.long} if entry.tokens else {}


def test_adapters_share_one_base():
    entry = zoo.adapted()
    space = ms.ModelSpace(entry.make, input_shape=entry.shape, **kind(entry))
    population = space.sample(seeds=50)
    assert space.dimension < 0.1 * sum(v.numel() for v in space.shared.values())
    assert population.points.shape == (50, space.dimension)
    assert all("lora" in block.name for block in space.layout)
