"""Read with `ast` which names a Python file imports."""

import ast


def dotted(node):
    """Return the parts of `a.b.c`; the first part is empty if the chain does not begin with a name."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


def used_names(tree, package=()):
    """Yield (dotted name, inside a function?) for every import and every `module.name` of an imported module."""
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname: alias.name for alias in aliases if alias.asname}
    modules |= {top: top for top in (alias.name.split(".")[0] for alias in aliases if not alias.asname)}
    pending = [(tree, False)]
    while pending:
        node, in_function = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", in_function) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            root, *rest = dotted(node)
            if root in modules:
                yield ".".join([modules[root], *rest]), in_function
        in_function |= isinstance(node, ast.FunctionDef)
        pending += [(child, in_function) for child in ast.iter_child_nodes(node)]
