"""Settings of the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import cassconc  # noqa: E402

project = "cassconc"
author = "the cassconc founders"
version = release = cassconc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"cassconc {version}"

myst_heading_anchors = 3
default_role = "code"
nitpicky = False

autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# no network is needed to build: names of other projects stay plain text
intersphinx_mapping: dict[str, tuple[str, None]] = {}
