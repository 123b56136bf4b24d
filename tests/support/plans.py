"""``fit`` with the choices of a plan among its settings: tests decide them one by one."""

import modelspace as ms

CHOICES = ("lowering", "shard", "compile", "threads", "workers")


def fit(population, data, **settings):
    chosen = {name: settings.pop(name) for name in CHOICES if name in settings}
    return ms.fit(population, data, plan=chosen, **settings)
