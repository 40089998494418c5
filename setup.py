"""Only so that old pip can install the checkout in editable mode; everything is in setup.cfg."""

from setuptools import setup

setup()
