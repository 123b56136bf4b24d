"""The truth about a step's memory: every allocation and release of PyTorch's CPU allocator, as its profiler sees."""

from contextlib import nullcontext

import torch
from torch.profiler import ProfilerActivity, profile


def measured_peak(module, inputs, make_optimizer, loss, autocast=None):
    """Most bytes alive in the second training step of a real module: parameters, state, batch and all."""
    optimizer = make_optimizer([p for p in module.parameters() if p.requires_grad])

    def step():
        with torch.autocast("cpu", dtype=autocast) if autocast else nullcontext():
            outputs = module(inputs)
            value = loss(outputs)
        value.backward()
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    states = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    held = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in (*module.parameters(), *module.buffers(), inputs, *states)
    }
    return sum(held.values()) + _peak_of(step)


def measured_inference_peak(module, inputs):
    """Most bytes alive in a forward without gradients."""

    def step():
        with torch.no_grad():
            return module(inputs)

    step()
    held = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in (*module.parameters(), *module.buffers(), inputs)
    }
    return sum(held.values()) + _peak_of(step)


def _peak_of(step):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
