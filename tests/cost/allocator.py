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
    return _held(module, inputs, optimizer) + _peak_of(step)


def measured_gpu_peak(module, inputs, make_optimizer, loss):
    """The same on an NVIDIA GPU, where the module and its batch lie, by what PyTorch counts of its requests there."""
    optimizer = make_optimizer([p for p in module.parameters() if p.requires_grad])

    def step():
        loss(module(inputs)).backward()
        optimizer.step()

    step()
    step()
    optimizer.zero_grad(set_to_none=True)
    held = _held(module, inputs, optimizer)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["requested_bytes.all.current"]
    step()
    return held + torch.cuda.memory_stats()["requested_bytes.all.peak"] - before


def measured_inference_peak(module, inputs):
    """Most bytes alive in a forward without gradients."""

    def step():
        with torch.no_grad():
            return module(inputs)

    step()
    return _held(module, inputs) + _peak_of(step)


def _held(module, inputs, optimizer=None):
    """Bytes of what stays between two steps."""
    state = optimizer.state.values() if optimizer else ()
    states = [v for s in state for v in s.values() if isinstance(v, torch.Tensor)]
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in (*module.parameters(), *module.buffers(), inputs, *states)
    }
    return sum(storages.values())


def _peak_of(step):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
