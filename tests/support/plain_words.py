"""The rules of plain English for everything that a person reads, and what breaks them."""

import ast
import re
from html.parser import HTMLParser

MAX_SENTENCE_WORDS = 25
MIN_MESSAGE_WORDS = 4  # a shorter string may be a key, a file name or a label
FORBIDDEN = {  # pattern: what to write instead, so that each thing has one name
    r"unclear|undecided|no verdict|(?:no|without a) decision|cannot tell": "Inconclusive",
    r"unchecked|not checked|(?:could|can)(?:not| not) be (?:analysed|scored|classified)": "Could not be checked",
    r"held[- ]out": "our test, the pictures of our test",
    r"degrad(?:ed|ation|ations)": "altered copy, saved again",
    r"regions?": "area",
    r"segments?": "part",
    r"anybody|somebody|nobody": "anyone, someone, no one",
    r"utilis\w+|utiliz\w+|whilst|aforementioned|hence|via|e\.g\.|i\.e\.": "an everyday word",
}
_FORBIDDEN = re.compile(r"\b(?:" + "|".join(FORBIDDEN) + r")\b", re.IGNORECASE)
_SPACED_PERCENT = re.compile(r"\d[ \N{NO-BREAK SPACE}]%")
_INLINE = {"a", "abbr", "b", "code", "em", "i", "span", "strong", "sub", "sup", "time", "u"}
_WORDLESS = {"code", "head", "script", "style"}
_READ_ATTRIBUTES = ("alt", "aria-label", "placeholder", "title")
_UPLOADER_WORDS = {"written", "file-name", "recent-name"}  # classes of text that the file or its sender wrote


class _Blocks(HTMLParser):
    """Collect the texts of a page that are read in one go: a paragraph, a cell, a button, a text alternative."""

    def __init__(self):
        super().__init__()
        self.blocks, self._pieces, self._skipped = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.blocks += [values[name] for name in _READ_ATTRIBUTES if values.get(name)]
        if tag == "meta" and values.get("name") == "description":
            self.blocks.append(values["content"])
        if tag == "code":
            self._pieces.append(" code ")  # it is copied, not read
        if tag in _WORDLESS or _UPLOADER_WORDS & set((values.get("class") or "").split()):
            self._skipped.append(tag)
        if tag not in _INLINE:
            self._end_block()

    def handle_endtag(self, tag):
        if self._skipped and tag == self._skipped[-1]:
            self._skipped.pop()
        if tag not in _INLINE:
            self._end_block()

    def handle_data(self, data):
        if not self._skipped:
            self._pieces.append(data)

    def close(self):
        super().close()
        self._end_block()

    def _end_block(self):
        text = " ".join("".join(self._pieces).split())
        self._pieces = []
        if text:
            self.blocks.append(text)


def page_texts(html):
    """Return the texts of a page, without those that the file or its sender wrote."""
    parser = _Blocks()
    parser.feed(html)
    parser.close()
    return parser.blocks


def markdown_texts(source):
    """Return the paragraphs and list items of a Markdown file; code counts as a word, tables are left out."""
    source = re.sub(r"```.*?```|^\|.*$|^#.*$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", source))
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=(?:-|\d+\.) )", source)]
    return [block for block in blocks if block]


def messages(source):
    """Return the strings of a module that may be read: all but docstrings, keys and names; a value counts as a word."""
    tree = ast.parse(source)
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(value) for value in node.values}
            found.append("".join(value.value if isinstance(value, ast.Constant) else "X" for value in node.values))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            found.append(node.value)
    return [text for text in found if len(text.split()) >= MIN_MESSAGE_WORDS]


def sentences(text):
    """Return the sentences of a text."""
    return [sentence for sentence in re.split(r"(?<=[.!?])[”)]?\s+", text) if sentence.strip()]


def count_words(sentence):
    return len(re.findall(r"\S*\w\S*", sentence))


def offences(texts):
    """Return what breaks the rules in texts: long sentences, "5 %" for "5%", and second names for one thing."""
    texts = list(texts)
    return [*hard_sentences(texts), *(f"{match[0]!r}: {text}" for text in texts for match in _FORBIDDEN.finditer(text))]


def hard_sentences(texts):
    """Return the long sentences in texts, and those with "5 %" for "5%"; technical documents may use any word."""
    every = [one for text in texts for one in sentences(text)]
    long = [f"{count_words(one)} words: {one}" for one in every if count_words(one) > MAX_SENTENCE_WORDS]
    return long + [f"{match[0]!r}: {one}" for one in every for match in _SPACED_PERCENT.finditer(one)]


def reading_grade(texts):
    """Return the Flesch-Kincaid grade of the whole sentences in texts; 9 is an age of 14 to 15.

    Source:
        Kincaid et al., "Derivation of New Readability Formulas", Research Branch Report 8-75, 1975.
    """
    whole = [one for text in texts for one in sentences(text) if one[-1] in ".!?" and count_words(one) > 2]
    words = [word for one in whole for word in re.findall(r"[A-Za-z’']+", one)]
    return 0.39 * len(words) / len(whole) + 11.8 * sum(map(_count_syllables, words)) / len(words) - 15.59


def _count_syllables(word):
    vowels = re.findall(r"[aeiouy]+", re.sub(r"(?<![aeiouyl])e[sd]?$", "", word.lower()))
    return max(1, len(vowels))
