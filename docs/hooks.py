"""What MkDocs does not do by itself: equations as MathML, the reference from the docstrings, pages from the repository.

Equations stand between $$ (on lines of their own) or $ (in a line) and become MathML, which browsers draw themselves.
The reference has one page per public module, made from what the module's __all__ lists: signature and docstring as
they are in the source.
"""

import importlib
import inspect
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]

MODULES = {
    "convgrad": "functions",
    "convgrad.layers": "layers",
    "convgrad.initializers": "initializers",
    "convgrad.optimizers": "optimizers",
    "convgrad.training": "training",
    "convgrad.schedules": "schedules",
    "convgrad.callbacks": "callbacks",
    "convgrad.batches": "batches",
    "convgrad.augmentation": "augmentation",
    "convgrad.checkpoints": "checkpoints",
    "convgrad.datasets": "datasets",
    "convgrad.plots": "plots",
    "convgrad.gan": "gan",
}
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config):
    """Put the reference into the navigation, and the page on numerics where there is one."""
    nav = config["nav"]
    for entry in nav:
        if "Reference" in entry:
            entry["Reference"] = [{name: f"reference/{page}.md"} for name, page in MODULES.items()]
    if (ROOT / "docs" / "numerics.md").exists() and {"Numerics": "numerics.md"} not in nav:
        nav.insert(-2, {"Numerics": "numerics.md"})
    return config


def on_files(files, config):
    """Add the generated pages."""
    for name, page in MODULES.items():
        files.append(File.generated(config, f"reference/{page}.md", content=reference(name)))
    for target, source in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, **_):
    """Equations to MathML; links that lead out of docs/ into the repository become plain names."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("`") else prose(part) for part in parts)


def prose(text):
    """A stretch of Markdown outside code."""
    text = re.sub(
        r"^\$\$\n(.+?)\n\$\$$", lambda m: convert(m[1], display="block"), text, flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"\$([^$\n]+)\$", lambda m: convert(m[1]), text)
    return re.sub(r"\[([^\]]*)\]\(((?:\.\./)*(?:docs/|asv_bench/|src/|csrc/|tests/|examples/)[^)]*)\)", outside, text)


def outside(link):
    """docs/x.md from a page that stands at the top of the repository is x.md here; other files are named only."""
    text, target = link[1], link[2]
    return (
        f"[{text}]({target.removeprefix('docs/')})"
        if target.startswith("docs/")
        else f"{text} (`{target.lstrip('./')}`)"
    )


def reference(name):
    """The page of one module, in Markdown."""
    module = importlib.import_module(name)
    names = [entry for entry in sorted(module.__all__) if not inspect.ismodule(getattr(module, entry))]
    lines = [f"# {name}", "", *block(inspect.getdoc(module))]
    for entry in names:
        value = getattr(module, entry)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            lines += [f"## {entry}", "", *block(repr(value))]
            continue
        lines += [f"## {entry}", "", *block(f"{entry}{signature(value)}\n\n{inspect.getdoc(value) or ''}")]
        for method, function in inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else ():
            if function.__doc__ and function.__qualname__.startswith(f"{entry}.") and not method.startswith("_"):
                text = f"{method}{signature(function)}\n\n{inspect.getdoc(function)}"
                lines += [f"### {entry}.{method}", "", *block(text)]
    return "\n".join(lines)


def signature(value):
    """The signature as text, without annotations, of which the docstring says more."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    empty = inspect.Parameter.empty
    parameters = [parameter.replace(annotation=empty) for parameter in found.parameters.values()]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def block(text):
    """Text to be shown as it is."""
    return ["```text", *(text or "").replace("```", "'''").splitlines(), "```", ""]
