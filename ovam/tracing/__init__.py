"""From a running pipeline to a trace: hooks, captures, and the trace's file."""
