"""Worker processes on the cores of one machine: each computes with one thread what it was given.

Two processes of one thread beat one of two threads on small networks: a training step is a hundred short
operations, and threads wait for each other at the end of each (measured on two cores, compiled: 14.8 against 24.7 µs
a member and step for a small convolutional net, 52.7 against 57.7 for an MLP at batch 128). Processes are forked, so
that a compiled program and the user's own objects are simply there; results come back through memory that both sides
map.
"""

import ctypes
import json
import mmap
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import Tensor

from modelspace.errors import ModelspaceError, of_the_user

Send = Callable[[dict[str, Any]], None]
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_index = 0


def process_index() -> int:
    """Return which of the worker processes this is; 0 outside of them too."""
    return _index


def can_fork(device: torch.device) -> bool:
    """Tell whether work for a device can go to forked processes: on Linux, on the CPU, outside a daemon process."""
    return sys.platform == "linux" and device.type == "cpu" and not multiprocessing.current_process().daemon


def in_processes(count: int, body: Callable[[int, Send], None]) -> Iterator[dict[str, Any]]:
    """Run ``body(i, send)`` in ``count`` forked processes; yields the dicts that they send, until the last has ended.

    A process that ends without finishing its body (killed, out of memory) yields ``{"lost": why}``. When the caller
    stops listening, or is interrupted, the processes are ended.

    Raises:
        ModelspaceError: one was raised in a process.
        RuntimeError: anything else was raised in a process, except running out of memory.
    """
    context = multiprocessing.get_context("fork")
    processes: dict[Connection, Any] = {}
    try:
        for i in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(i, body, sender, os.getpid()), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 warns of forking beside threads; PyTorch's are idle here, and a child needs none.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            sender.close()
            processes[receiver] = process
        while processes:
            for receiver in wait(list(processes)):
                assert isinstance(receiver, Connection)
                try:
                    message = json.loads(receiver.recv_bytes())
                except (EOFError, OSError):  # the latter where it was killed within a message
                    process = processes.pop(receiver)
                    process.join()
                    if process.exitcode:
                        yield {"lost": f"a worker process ended ({_ending(process.exitcode)})"}
                    continue
                if "raised" in message:
                    raise (ModelspaceError if message["ours"] else RuntimeError)(message["raised"])
                yield message
    finally:
        for process in processes.values():
            process.kill()
            process.join()


def _run(index: int, body: Callable[[int, Send], None], sender: Connection, parent: int) -> None:
    global _index
    _index = index
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _end_with(parent)
    torch.set_num_threads(1)

    def send(message: dict[str, Any]) -> None:
        sender.send_bytes(json.dumps(message).encode())

    try:
        body(index, send)
    except Exception as error:
        if is_out_of_memory(error):
            send({"lost": "out of memory in a worker process"})
        else:
            error = of_the_user(error)
            ours = isinstance(error, ModelspaceError)
            send({"raised": str(error) if ours else traceback.format_exc(), "ours": ours})
    finally:
        sys.stderr.flush()
        sender.close()
        os._exit(0)  # nothing of the parent's is to be finalised here


def _end_with(parent: int) -> None:
    """Have Linux kill this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    texts = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def shared(tensor: Tensor) -> Tensor:
    """Copy into memory that forked processes write into and this one reads; not bound by the size of /dev/shm."""
    if tensor.numel() == 0:
        return tensor.clone()
    memory = mmap.mmap(-1, tensor.numel() * tensor.element_size())
    copy = torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)
    copy.copy_(tensor)
    return copy
