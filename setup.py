"""For tools that look for a setup.py: all metadata is in setup.cfg."""

from setuptools import setup

setup()
