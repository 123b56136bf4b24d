"""What a population is held against beside the plain loop: each peer one file, each in a process of its own.

A process sleeps between its turns, so neither its threads nor its memory traffic disturb whoever's turn it is, and
JAX and PyTorch never share a process.
"""

PEERS = {
    "torch.func": "torch_func",
    "jax": "jax_vmap",
    "processes": "processes",
}
