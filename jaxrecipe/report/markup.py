"""HTML and SVG elements whose text is always escaped: only what `element` returns counts as markup."""

import html
import json
from collections.abc import Iterable
from typing import Any

from jaxrecipe.report.numbers import clean

_VOID = {"img", "input", "br", "meta"}


class Markup(str):
    """Text that is markup already. Only this module makes it from anything that a user may have written."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element. Children that are not Markup are escaped; None and False attributes are left out.

    A trailing underscore in an attribute's name is dropped (`class_`), the others become hyphens (`data_tip`).
    """
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    written = "".join(
        f" {name}" if value is True else f' {name}="{escape(value)}"'
        for name, value in named
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[Any], separator: str = "") -> Markup:
    """Children one after the other, escaped unless they are Markup."""
    return Markup(separator.join(child if isinstance(child, Markup) else escape(child) for child in children))


def escape(value: Any) -> Markup:
    """Words as words, wherever in HTML or SVG they stand."""
    return Markup(html.escape(clean(str(value)), quote=True))


def data_block(value: Any) -> Markup:
    """JSON for the page's script, which cannot end its own element or open another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(f'<script type="application/json">{safe}</script>')
