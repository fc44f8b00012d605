"""How Sphinx builds the handbook. What it shows of the program's tables comes from `_ext/from_program.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from skystow import __version__

project = "skystow"
author = "the skystow developers"
copyright = "the skystow developers"
version = release = __version__

extensions = ["myst_parser", "sphinxarg.ext", "from_program"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"version": __version__}

nitpicky = True
html_theme = "furo"
html_title = f"skystow {__version__}"
html_copy_source = False
html_show_sourcelink = False
