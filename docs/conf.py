"""How Sphinx builds the site. CONTRIBUTING.md has the command.

The source folder is the repository, not docs/: pages link to README, CHANGELOG, reports and cards as on GitHub, so
those are pages of the site too.
"""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from hf_icckd import __version__

ROOT = Path(__file__).resolve().parents[1]

project = "hf_icckd"
author = "The hf_icckd authors"
project_copyright = f"2026, {author}"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/notebooks/*.ipynb",
    "benchmarks/GPU.md",
    "model_cards/README.md",
    "model_cards/*/README.md",
    "results/LOG.md",
    "results/*/report.md",
    "results/**/README.md",
    "hf_icckd/data/sources/digits/README.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "**/runs", "**/logs"]
suppress_warnings = ["toc.not_included"]  # reports and cards are reached by links

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]

# Pages
myst_heading_anchors = 4  # the anchors that GitHub makes
nb_execution_mode = "force"  # notebooks are stored without outputs
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
# The nets of the notebooks are tiny: a second thread gains nothing, and on a machine that others use it loses minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
nb_merge_streams = True
nb_output_stderr = "remove"  # logs, and every state of a progress bar

# Docstrings
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 90  # a longer one has a line for each argument

# Appearance
highlight_language = "none"  # a block without a language shows output, not Python
html_theme = "furo"
html_title = f"hf_icckd {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]  # sends visitors of / to docs/
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"


def folders_as_text(app: Sphinx, document: nodes.document) -> None:
    """Replace links to folders of records by their paths: GitHub lists such a folder, a site has nothing there."""
    here = (ROOT / app.env.docname).parent
    for link in list(document.findall(addnodes.pending_xref)):
        folder = (here / link["reftarget"]).resolve()
        if folder.is_dir():
            link.replace_self(nodes.literal(text=str(folder.relative_to(ROOT))))


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("doctree-read", folders_as_text)
