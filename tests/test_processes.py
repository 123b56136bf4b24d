import os
import signal
import time

import pytest
import torch

from modelspace.errors import ModelspaceError
from modelspace.processes import can_fork, in_processes, is_out_of_memory, shared


def test_what_processes_write_and_send_arrives():
    numbers = shared(torch.zeros(3))

    def body(i, send):
        numbers[i] = i + 1
        send({"i": i, "thread": torch.get_num_threads()})

    messages = sorted(in_processes(3, body), key=lambda m: m["i"])
    assert messages == [{"i": i, "thread": 1} for i in range(3)]
    assert numbers.tolist() == [1, 2, 3]


def test_the_error_of_a_process_is_raised_here():
    def body(i, send):
        raise ModelspaceError("the user's mistake")

    with pytest.raises(ModelspaceError, match="the user's mistake"):
        list(in_processes(2, body))
    with pytest.raises(ModelspaceError, match=r"ZeroDivisionError: .* at line \d+ of "):
        list(in_processes(2, lambda i, send: 1 // 0))


def test_a_process_that_is_killed_or_runs_out_of_memory_is_told():
    def body(i, send):
        if i == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if i == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        send({"i": i})

    messages = [m.get("lost", m.get("i")) for m in in_processes(3, body)]
    assert set(messages) == {
        2,
        "out of memory in a worker process",
        "a worker process ended (killed by SIGKILL)",
    }


def test_processes_end_when_nobody_listens():
    def body(i, send):
        send({"pid": os.getpid()})
        time.sleep(60)

    messages = in_processes(2, body)
    pids = [next(messages)["pid"] for _ in range(2)]
    messages.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("tensor", [torch.arange(6.0).view(2, 3), torch.empty(0, 3), torch.tensor(5)])
def test_shared_memory_is_a_copy(tensor):
    copy = shared(tensor)
    assert torch.equal(copy, tensor)
    assert copy.dtype == tensor.dtype
    assert copy.data_ptr() != tensor.data_ptr() or not tensor.numel()


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes"))


def test_a_gpu_is_not_forked():
    assert not can_fork(torch.device("cuda"))


def test_a_process_that_is_killed_within_a_message_is_told():
    def body(i, send):
        if i == 1:
            signal.setitimer(
                signal.ITIMER_REAL, 0.1
            )  # it is written for longer: nobody reads, and a pipe is small
            send({"long": "x" * 10**7})
        send({"i": i})

    messages = in_processes(2, body)
    assert next(messages) == {"i": 0}
    time.sleep(0.3)
    assert list(messages) == [{"lost": "a worker process ended (killed by SIGALRM)"}]
