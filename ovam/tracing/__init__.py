"""From a running pipeline to a trace: hooks, captures, and the trace's file."""

import ovam.tracing.replay  # noqa: F401 - it adds itself to the readers of traces
