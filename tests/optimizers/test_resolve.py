from functools import partial

import jaxtyping
import pytest
import torch
from torch import nn
from torch.testing._internal.common_optimizers import optim_db

from modelspace import optimizers as o
from modelspace.errors import ModelspaceError
from modelspace.optimizers import EMA, SAM, SGD, SWA, Adam, AdamW, Muon, NAdam, RMSprop, resolve

PARAMETERS = [nn.Parameter(torch.zeros(2, 2))]


@pytest.mark.parametrize(
    ("named", "optimizer"),
    [
        ("sgd", SGD()),
        ("Adam", Adam()),
        ("ADAMW", AdamW()),
        ("rmsprop", RMSprop()),
        ("schedulefreeadamw", o.ScheduleFreeAdamW()),
        ("SAM(sgd)", SAM(SGD())),
        ("ema(sam(adam))", EMA(SAM(Adam()))),
        (Adam(lr=0.5), Adam(lr=0.5)),
        (SWA(SGD(), swa_start=3), SWA(SGD(), swa_start=3)),
        (torch.optim.NAdam, NAdam()),
        (partial(torch.optim.SGD, momentum=0.9, nesterov=True), SGD(momentum=0.9, nesterov=True)),
        (partial(torch.optim.AdamW, foreach=False, betas=[0.5, 0.9]), AdamW(betas=(0.5, 0.9))),
        (
            torch.optim.AdamW(PARAMETERS, lr=torch.tensor(0.25), weight_decay=0.1),
            AdamW(0.25, weight_decay=0.1),
        ),
        (torch.optim.Muon(PARAMETERS, ns_steps=3), Muon(ns_steps=3)),
        (torch.optim.LBFGS(PARAMETERS, max_iter=1, history_size=7), o.LBFGS(history_size=7)),
        (torch.optim.Adafactor(PARAMETERS, d=2.0), o.Adafactor(d=2.0)),
        (torch.optim.RMSprop([{"params": PARAMETERS}], centered=True), RMSprop(centered=True)),
    ],
    ids=str,
)
def test_resolve(named, optimizer):
    assert resolve(named) == optimizer


@pytest.mark.parametrize("entry", optim_db, ids=lambda entry: entry.optim_cls.__name__)
def test_a_configured_optimizer_of_torch_is_read_as_what_it_does(entry):
    kind = entry.optim_cls
    if not hasattr(o, kind.__name__) or kind is torch.optim.LBFGS:
        return
    for given in entry.optim_inputs_func(device="cpu"):
        theirs = kind(PARAMETERS, **given.kwargs)
        ours = resolve(theirs)
        known = {n: v for n, v in theirs.defaults.items() if n in vars(ours)}
        assert {n: v if n != "lr" else pytest.approx(float(v)) for n, v in known.items()} == {
            n: vars(ours)[n] for n in known
        }
        assert resolve(partial(kind, **given.kwargs)) == ours


def test_a_learning_rate_that_a_scheduler_changed_is_the_one_that_it_multiplies():
    theirs = torch.optim.SGD(PARAMETERS, lr=0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(theirs, 0.5)
    theirs.step()
    scheduler.step()
    assert theirs.param_groups[0]["lr"] == 0.25
    assert resolve(theirs) == SGD(lr=0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("adan", "unknown optimizer 'adan': did you mean 'adam'"),
        ("ema(adan)", "unknown optimizer 'adan': did you mean 'adam'"),
        (Adam, r"an object such as modelspace\.optimizers\.Adam\(\), or one of torch.optim; received <class"),
        (3, "received 3"),
        (
            torch.optim.SparseAdam(PARAMETERS),
            r"SparseAdam has no form for many members here; those of torch.optim",
        ),
        (torch.optim.LBFGS, r"one iteration an update here.*max_iter=1"),
        (partial(torch.optim.SGD, lrr=1.0), "SGD takes no lrr here"),
        (
            torch.optim.SGD([{"params": PARAMETERS, "lr": 0.5}, {"params": [nn.Parameter(torch.ones(1))]}]),
            r"the groups of parameters of SGD differ in lr: make it of model\.named_parameters\(\), or give groups",
        ),
    ],
    ids=str,
)
def test_resolve_refuses(given, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse before we do
    with pytest.raises(ModelspaceError, match=message):
        resolve(given)


@pytest.mark.parametrize(
    ("around", "message"),
    [
        (lambda: SAM(Adam), r"SAM goes around an optimizer, as SAM\(Adam\(\)\); received <class"),
        (lambda: SAM(SAM(Adam())), "SAM is around another with the columns sam_rho"),
        (lambda: Muon(adjust_lr_fn="arbitrary"), "Muon needs adjust_lr_fn 'original' or 'match_rms_adamw'"),
    ],
)
def test_what_can_not_be_made_is_refused(around, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ModelspaceError, match=message):
        around()
