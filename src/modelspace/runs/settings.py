"""How a member ended."""

UNFINISHED, FINISHED, DIVERGED, STOPPED = "unfinished", "finished", "diverged", "stopped early"
STATES = (UNFINISHED, FINISHED, DIVERGED, STOPPED)
