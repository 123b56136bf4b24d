"""``fit`` with the choices of a plan among its settings: tests decide them one by one."""

from importlib import import_module

import modelspace as ms

# The modules, for patches: the package has functions by these names.
FIT, TRAIN = (import_module(f"modelspace.fit.{name}") for name in ("fit", "train"))
CHOICES = ("lowering", "shard", "compile", "threads", "workers")


def fit(population, data, **settings):
    chosen = {name: settings.pop(name) for name in CHOICES if name in settings}
    return ms.fit(population, data, plan=chosen, **settings)
