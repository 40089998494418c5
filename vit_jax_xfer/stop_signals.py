"""Signals that tell a program of an end to come, beside SIGTERM and SIGINT."""

import signal

# Each ends a program at once unless it is handled: that a terminal goes away, what schedulers send
# before a job's time is over, and the end of its CPU seconds.
WARNINGS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
