#!/usr/bin/env python3
"""Writes into expressions.json what Jinja2 3.1 makes of each expression, set up as Hugging Face transformers does.

A new expression needs a line [EXPRESSION, null] there. Run with `pip install jinja2==3.1.*`. Null is left where Jinja2 raises.
"""
import json
import pathlib

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception


def render(expression, context):
    source = expression if "{%" in expression or "{{" in expression else "{{ " + expression + " }}"
    try:
        return environment.from_string(source).render(**context)
    except Exception:
        return None


path = pathlib.Path(__file__).with_name("expressions.json")
table = json.loads(path.read_text())
context = table["context"]
lines = [json.dumps([e, render(e, context)], ensure_ascii=False) for e, _ in table["expressions"]]
path.write_text(
    '{\n"context": ' + json.dumps(context, ensure_ascii=False) + ',\n"expressions": [\n' + ",\n".join(lines) + "\n]\n}\n"
)
