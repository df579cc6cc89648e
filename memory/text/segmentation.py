"""Segmentation of texts for FTS5: scripts that do not part their words are indexed by character, asked by bigram.

FTS5's `unicode61` takes a whole sentence of Chinese, Japanese or Thai for one token, and its `trigram` finds no word of
two characters. Single characters as tokens and two neighbours as a phrase find words of any length, as Lucene's
CJKBigramFilter does with `outputUnigrams`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from unicodedata import category, normalize

TOKENIZER = "porter unicode61 remove_diacritics 2"

# Thai, Lao, Burmese, Khmer; Hangul, which writes particles onto its words; kana, bopomofo, Yi; Han of all planes.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    "\u3038-\u303c\u3041-\u30ff\u3100-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
)
_CHARACTER = f"([{_UNSPACED}])"
_RUN = f"([{_UNSPACED}]+)|([^\\s{_UNSPACED}]+)"
"""Compiled, which takes 20 ms, by the first text that needs them."""


def segmented(text: str) -> str:
    """`text` in compatibility form (NFKC), blanks around each character of a script that does not part its words."""
    return text if text.isascii() else re.sub(_CHARACTER, r" \1 ", normalize("NFKC", text))


def phrases(text: str) -> list[str]:
    """The words of `text` as different FTS5 strings, in their order: `"key"`, `"地 図"`.

    Each is quoted and holds letters, digits and their marks only: nothing in any `text` is read as the query language.
    """
    normal = normalize("NFKC", text)
    # What has no category yet may be a letter to SQLite.
    parted = "".join(one if category(one)[0] in "LNM" or category(one) in ("Co", "Cn") else " " for one in normal)
    found: dict[str, str] = {}
    for unspaced, word in re.findall(_RUN, parted) if not parted.isascii() else [("", one) for one in parted.split()]:
        # Marks such as the vowels of Thai are no tokens.
        letters = [one for one in unspaced if category(one)[0] != "M"]
        units = [word] if word else letters if len(letters) == 1 else [f"{one} {two}" for one, two in pairwise(letters)]
        for unit in units:
            # FTS5 folds case by tables of its own.
            found.setdefault(unit.lower(), f'"{unit}"')
    return list(found.values())
