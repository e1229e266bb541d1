"""What setup.cfg cannot say: the README as PyPI shows it. All other metadata is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
NOTE = "\nPages that are named here are in `docs` of the source distribution.\n"

setup(
    # A link to a page of the checkout would lead nowhere on PyPI; its words stay.
    long_description=re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", README) + NOTE,
    long_description_content_type="text/markdown",
)
