"""Broken and hostile files, made from good ones: `python -m tests.fuzz` (docs/reliability.md)."""
