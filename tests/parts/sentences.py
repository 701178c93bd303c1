"""Sentences of a novel in the public domain, cut when a test wants them."""

import re

from dev import cluster

_END = re.compile(r'(?<=[.!?])["\']?\s+(?=["\'A-Z])')


def cut(count: int) -> list[str]:
    """The first `count` different sentences of 40 to 300 characters behind the preface."""
    text = cluster.artifact("tom-sawyer.txt").read_text(encoding="utf-8", errors="replace")
    story = text[text.index("CHAPTER I\n") :]
    found: dict[str, None] = {}
    for paragraph in story.split("\n\n"):
        for sentence in _END.split(" ".join(paragraph.split())):
            if 40 <= len(sentence) <= 300:
                found[sentence.strip("\"' ")] = None
        if len(found) >= count:
            break
    assert len(found) >= count
    return list(found)[:count]
