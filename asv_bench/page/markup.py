"""HTML as strings: elements whose text is escaped, and the frame that every page shares."""

import html


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value):
    """The value as HTML: escaped, unless it is Markup."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(children):
    """Children as HTML, nested lists flattened, None left out."""
    parts = []
    for child in children:
        if isinstance(child, (list, tuple)):
            parts.append(join(child))
        elif child is not None:
            parts.append(text(child))
    return Markup("".join(parts))


VOID = {"meta", "link", "input"}
SHAPES = {"rect", "line", "circle"}  # of SVG, where only a slash closes them


def tag(name, /, *children, **attributes):
    """An element. A trailing underscore is dropped from attribute names, others become hyphens; None and False omit."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    head = " ".join(parts)
    if name in VOID or name in SHAPES:
        return Markup(f"<{head}>" if name in VOID else f"<{head}/>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def times(ratio):
    """A ratio as people read it: 1.65×, 12.3×, 135×."""
    digits = 2 if ratio < 9.995 else 1 if ratio < 99.95 else 0
    return f"{ratio:.{digits}f}×"


def seconds(value):
    """A time with its unit, three digits: 3.42 µs."""
    for unit, factor in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if value * factor < 999.5:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"


def threads(n):
    """1 thread, 2 threads."""
    return f"{n} thread{'' if n == 1 else 's'}"


PAGES = (("index.html", "Overview"), ("cases.html", "Every case"), ("history/index.html", "History"))


def page(name, title, main, *, script=None, foot=""):
    """A whole document; `name` is its path in the site."""
    up = "../" * name.count("/")
    links = [
        tag("a", label, href=up + target, aria_current="page" if target == name else None) for target, label in PAGES
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href=f"{up}icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href=f"{up}style.css"),
        tag("script", src=up + script, defer=True) if script else None,
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", class_="skip", href="#main"),
        tag(
            "header",
            tag("a", "convgrad", tag("span", " performance"), class_="brand", href=f"{up}index.html"),
            tag("nav", *links, aria_label="Pages"),
            class_="top",
        ),
        tag("main", *main, id="main", tabindex="-1"),
        tag("footer", foot),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"
