"""The documentation: its code runs as doctests, its pictures are there, the site builds without a warning."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if ">>> " in (DOCS / page).read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WITH_CODE)
def test_code_on_the_page_runs(page):
    failed, tried = doctest.testfile(
        str(DOCS / page), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS
    )
    assert tried
    assert not failed


def test_modules_with_examples_in_docstrings():
    from convgrad import batches, gan

    for module in (batches, gan):
        failed, tried = doctest.testmod(module)
        assert tried, module
        assert not failed, module


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_there(page):
    path = DOCS / page
    for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file(), target


def test_every_page_of_the_notes_has_equation_code_and_picture_or_link():
    for page in (DOCS / "sections").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "$" in text, page
        assert ">>> " in text, page


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "sections" / "gan.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert "$" not in re.sub(r"<(code|pre|script).*?</\1>", "", page, flags=re.DOTALL)
    reference = (tmp_path / "site" / "reference" / "gan.html").read_text(encoding="utf-8")
    assert "js_divergence(p, q, *, dx=None)" in reference
    for html in (tmp_path / "site").rglob("*.html"):  # nothing is fetched from elsewhere
        text = html.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"https?://", text), html
