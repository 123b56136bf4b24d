"""A page as a reader without scripts sees it, and a string that no page may take for more than text."""

import re
from html.parser import HTMLParser

HOSTILE = "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>\"'&{{7*7}}"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Reader(HTMLParser):
    """What a reader without scripts sees: elements, headings, tables as rows of text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.headings, self.tables, self.scripts = [], [], [], []
        self.open, self.unclosed = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append([int(tag[1]), ""])
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts[-1][1] += data
        elif re.fullmatch("h[1-6]", inside):
            self.headings[-1][1] += data
        elif inside == "caption":
            self.tables[-1]["caption"] += data
        elif inside in ("td", "th"):
            self.tables[-1]["rows"][-1][-1] += data

    def table(self, caption):
        (found,) = (t for t in self.tables if t["caption"].startswith(caption))
        return found["rows"]
