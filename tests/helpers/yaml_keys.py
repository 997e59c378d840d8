"""The keys at the top of a YAML, and what a script reads of them."""

import ast
import re

from speechbrain.utils.run_opts import RunOptions


def keys_of(text):
    """The keys at the top, and those that stand in references."""
    top = re.findall(r"^(\w+):", text, re.MULTILINE)
    return top, set(re.findall(r"<(\w+)", text))


def names_read(scripts):
    """All that scripts may read of a YAML: ``hparams.key``, ``"key"``."""
    found = set()
    for script in scripts:
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.Attribute):
                if ast.unparse(node.value).endswith("hparams"):
                    found.add(node.attr)
    return found


def unread(text, is_read):
    """The keys at the top that neither a reference nor a script reads."""
    top, referred = keys_of(text)
    return [
        key
        for key in top
        if key not in referred
        and not is_read(key)
        and key not in RunOptions().as_dict()
        and f"{key}: !apply" not in text
    ]
