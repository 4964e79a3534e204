"""From a pipeline at work to a trace: hooks, captures, real images."""
