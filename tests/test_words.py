"""Names and prose follow the glossary in CONTRIBUTING.md: no banned words, no name with two meanings."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest
from project import ROOT

PACKAGES = ("detector", "training", "webapp")
BANNED_WORDS = {  # pattern: what to write instead
    r"judg(?:e|es|ed|ing|ings|ement|ements|ment|ments)": "analyse, classify, score",
    r"heed(?:s|ed|ing)?": "use, active",
    r"told|tells?|telling": "report, show, distinguish, indicate",
    r"look(?:s|ed|ing)? at": "sample, inspect, examine",
    r"deliver(?:s|y|ies|ed|ing)?": "degradation",
    r"(?:speaks?|spoke|speaking) for": "indicates, is evidence of",
    r"stretch(?:es)?": "segment",
    r"(?:takes?|took|taken|taking) back": "undo",
    r"(?:comes?|came) about": "results from",
    r"(?:is|are|was|were|be) worth": "state the effect",
    r"(?:gives?|gave|given|giving) away": "reveals",
    r"whoever": "name the person or the process",
    r"thereof": "of it",
    r"such an? one": "repeat the noun",
    r"ask(?:s|ed|ing)? for": "request, require",
    r"put to the test": "test",
}
BANNED = re.compile(r"\b(?:" + "|".join(BANNED_WORDS) + r")\b", re.IGNORECASE)
CODE = re.compile(r"``.*?``|`[^`\n]*`")  # names of columns and keys that file formats fix
MIN_SENTENCE_WORDS = 4  # shorter strings are keys, file names, labels

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "service", "base", "core"}
CONSTANTS_IN_SEVERAL_MODULES: dict[str, str] = {}  # name: why


def python_files(root, folders):
    return [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def module_texts(source, *, with_messages):
    """Yield (line, text) of a module's docstrings, comments and names of functions and classes.

    Args:
        source: Python source.
        with_messages: also yield other strings that hold a sentence: error messages, help texts.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name.replace("_", " ")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_message = with_messages and len(node.value.split()) >= MIN_SENTENCE_WORDS
            if id(node) in docstrings or is_message:
                for offset, line in enumerate(CODE.sub(" ", node.value).splitlines()):
                    yield node.lineno + offset, line


def template_texts(source):
    """Yield (line, text) of a template's text, comments, strings inside expressions, and readable attributes."""
    kept = re.sub(r"{%.*?%}|{{.*?}}|<(script|style)\b.*?</\1>", lambda code: _strings(code[0]), source, flags=re.DOTALL)
    kept = re.sub(r"<[a-z/][^<>]*>", lambda tag: _strings(tag[0], r'(?:title|alt|aria-label)="([^"]*)"'), kept)
    yield from enumerate(kept.splitlines(), start=1)


def _strings(code, pattern=r'"([^"]* [^"]*)"'):
    """Replace code by the phrases in it, keeping its line breaks; a string of one word may be a key or a file."""
    return "\n".join(" ".join(re.findall(pattern, line)) for line in code.split("\n"))


def script_texts(source):
    """Yield (line, text) of the comments of a JavaScript file or a style sheet."""
    blocks = re.sub(r"/\*.*?\*/", lambda block: block[0].replace("\n", "\n// "), source, flags=re.DOTALL)
    for number, line in enumerate(blocks.splitlines(), start=1):
        if comment := re.search(r"(?:^|\s)(?://|/\*).*", line):
            yield number, comment[0]


def banned_words(texts):
    """Yield (line, word) for every banned word in (line, text) pairs."""
    for line, text in texts:
        for match in BANNED.finditer(CODE.sub(" ", text)):
            yield line, match[0]


def offences_in_prose(root):
    """Return "file:line: word" for every banned word of the project at `root`."""
    found = []
    for folder in (*PACKAGES, "scripts", "tests"):
        for path in python_files(root, [folder]):
            texts = module_texts(path.read_text(), with_messages=folder != "tests")
            found += [(path, *offence) for offence in banned_words(texts)]
    for pattern, reader in [("templates/*.html", template_texts), ("static/*.js", script_texts)]:
        for path in sorted(root.glob(pattern)):
            found += [(path, *offence) for offence in banned_words(reader(path.read_text()))]
    for path in sorted((root / "static").glob("*.css")):
        found += [(path, *offence) for offence in banned_words(script_texts(path.read_text()))]
    for pattern in ("*.md", "docs/*.md", "*/README.md"):
        for path in sorted(root.glob(pattern)):
            found += [(path, *offence) for offence in banned_words(enumerate(path.read_text().splitlines(), start=1))]
    return sorted({f"{path.relative_to(root)}:{line}: {word}" for path, line, word in found})


def constants(source):
    """Return the names of a module's own constants."""
    names = set()
    for node in ast.parse(source).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            names |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in names if re.fullmatch(r"_?[A-Z][A-Z0-9_]+", name)}


def repeated_constants(root):
    """Return {constant: modules} of the constants that several modules define."""
    modules = defaultdict(list)
    for path in python_files(root, PACKAGES):
        for name in constants(path.read_text()):
            modules[name].append(str(path.relative_to(root)))
    return {name: paths for name, paths in sorted(modules.items()) if len(paths) > 1}


def empty_names(root):
    """Return the modules, folders and classes whose name says nothing about their content."""
    found = set()
    for path in python_files(root, (*PACKAGES, "scripts", "tests")):
        relative = path.relative_to(root)
        for part in relative.with_suffix("").parts:
            if EMPTY_NAMES & set(part.split("_")):
                found.add(str(relative))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and EMPTY_NAMES & set(
                re.sub("([A-Z])", r" \1", node.name).lower().split()
            ):
                found.add(f"{relative}: {node.name}")
    return sorted(found)


def modules_named_like_their_function(root):
    return [
        str(path.relative_to(root))
        for path in python_files(root, PACKAGES)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == path.stem
    ]


@pytest.mark.slow
def test_no_banned_word_in_docstrings_comments_messages_and_pages():
    found = offences_in_prose(ROOT)
    assert not found, f"{len(found)} banned words:\n" + "\n".join(found)


def test_a_constant_s_name_stands_in_one_module():
    repeated = repeated_constants(ROOT)
    assert {name: paths for name, paths in repeated.items() if name not in CONSTANTS_IN_SEVERAL_MODULES} == {}
    assert set(CONSTANTS_IN_SEVERAL_MODULES) <= set(repeated), "no longer repeated: remove it from the list"


@pytest.mark.slow
def test_no_module_and_no_class_has_an_empty_name():
    assert empty_names(ROOT) == []


def test_no_module_has_the_name_of_its_function():
    assert modules_named_like_their_function(ROOT) == []


@pytest.mark.parametrize(
    ("reader", "source", "expected"),
    [
        (module_texts, '"""Judge a picture."""', [(1, "Judge")]),
        (module_texts, 'x = 1\n"""Where a\nstretch begins."""', [(3, "stretch")]),
        (module_texts, "x = 1  # is told at the end", [(1, "told")]),
        (module_texts, "def test_it_is_heeded(): pass", [(1, "heeded")]),
        (module_texts, "class A:\n    async def deliver(self): pass", [(2, "deliver")]),
        (module_texts, '"""The column `delivery` keeps its name."""', []),
        (module_texts, 'KEYS = ["delivery"]', []),
        (module_texts, 'raise ValueError("Nobody asked for this picture.")', [(1, "asked for")]),
        (module_texts, 'raise ValueError(f"Of {n} pictures none was looked at.")', [(1, "looked at")]),
        (module_texts, '"""Look the address up, look for faces, take the square root."""', []),
        (template_texts, "<p>\nThe score of each stretch</p>", [(2, "stretch")]),
        (template_texts, '<p class="delivery">{{ row.delivery }}</p>', []),
        (template_texts, '{{ "was judged twice" if twice }}', [(1, "judged")]),
        (template_texts, '{% if kind == "x" %}{{ count }}{% endif %}\n<img alt="It was judged">', [(2, "judged")]),
        (template_texts, "{# what is told here #}", [(1, "told")]),
        (script_texts, "let judge = 1; // told\n/* a\n   stretch */", [(1, "told"), (3, "stretch")]),
    ],
)
def test_banned_words_are_found(reader, source, expected):
    options = {"with_messages": True} if reader is module_texts else {}
    assert list(banned_words(reader(source, **options))) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A = 1", set()),
        ("LIMIT = 1\n_LIMIT_PX: int = 2\nlimit = 3", {"LIMIT", "_LIMIT_PX"}),
        ("LOW, HIGH = 1, 2", {"LOW", "HIGH"}),
        ("from a import LIMIT\nclass B:\n    STEP = 1", set()),
    ],
)
def test_constants_are_found(source, expected):
    assert constants(source) == expected


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("detector/utils.py", "", ["detector/utils.py"]),
        ("webapp/job_manager.py", "", ["webapp/job_manager.py"]),
        ("training/fitting.py", "class RunHandler: pass", ["training/fitting.py: RunHandler"]),
        ("training/scores.py", "class DatabaseUrl: pass", []),
    ],
)
def test_empty_names_are_found(path, source, expected, tmp_path):
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(source)
    assert empty_names(tmp_path) == expected


def test_a_module_named_like_its_function_is_found(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "train.py").write_text("def train(): pass")
    assert modules_named_like_their_function(tmp_path) == [str(Path("training/train.py"))]
