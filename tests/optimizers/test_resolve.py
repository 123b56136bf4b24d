import jaxtyping
import pytest
import torch

from modelspace.errors import ModelspaceError
from modelspace.optimizers import SGD, Adam, AdamW, RMSprop, resolve


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", SGD), ("Adam", Adam), ("ADAMW", AdamW), ("rmsprop", RMSprop)]
)
def test_resolve(name, kind):
    assert resolve(name) == kind()
    assert resolve(kind(lr=0.5)) == kind(lr=0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("adan", "unknown optimizer 'adan': did you mean 'adam'"),
        (Adam, r"an object such as modelspace\.optimizers\.Adam\(\); received <class"),
        (torch.optim.SGD([torch.zeros(1)]), "One of torch.optim holds the parameters of a single module"),
    ],
)
def test_resolve_refuses(given, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse before we do
    with pytest.raises(ModelspaceError, match=message):
        resolve(given)
