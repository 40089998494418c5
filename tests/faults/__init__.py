"""A small job that is hurt hundreds of times: `python -m tests.faults` (docs/reliability.md)."""
