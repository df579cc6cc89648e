"""Text from a game or a stranger, stored as a quotation: it can say anything and be taken for nothing but text.

What a memory recalls is put into a prompt whose structure is plain text (see `memory.prompts`). A quotation cannot
end the memory block, set a task, speak as another role, or act.

Each line is judged by the shape that a reader sees: normalised (NFKC), without invisible characters, without accents,
and with letters of other scripts as the Latin ones that they look like. What is structure there gets `MARK` before it;
what is a token of a chat format loses its brackets. The rules go by shape (a label and a colon, a heading, a fence, an
angle bracket that opens a tag), so that a format that nobody has thought of yet is covered too.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from memory.text.cleaning import TEXT_LIMIT, clean

MARK = "| "
"""Put before a line that would otherwise be read as structure."""
EXAMPLE = "Example. Task: "
"""How an example opens that a reflector has made."""

_ROLES = """\
system developer user assistant human tool function ipython ai bot model chatbot llm gpt admin operator moderator root
instruct"""
_PARTS = """\
task hint goal objective instruction directive rule prompt command action result observation example input output
context question answer response thought reasoning memory message conversation role request query override important
warning"""
ROLES = frozenset(_ROLES.split())
"""Who speaks in the prompts of common models."""
LABELS = ROLES | frozenset(_PARTS.split())
"""What opens a part of a prompt, where a colon follows it."""

# Tags as chat formats, XML and HTML have them. An angle bracket before a word, a bar, a slash or a mark opens one,
# closed or not: two pieces may meet. Then what some families have instead: square brackets round a bar, round capitals
# (Llama 2, Mistral, ChatGLM) or at a tilde (MiniMax), and triangles (Kimi).
TAGS = re.compile(
    r"(?<!<)<++(?:(?=[|/!?\[▁\w])[^<>\n]{0,200}+>+|\s?/?\s?[\w|]{1,30}+\s?/?\s?>+|(?=[|/!?\[▁\w]))|(?<=\|)>"
    r"|\[(?=\|)|(?<=\|)\]|\]~!?\w[\[\]]|\[e~\[|\[/?(?:inst|sys)\]|[◁◀]/?\w{1,30}[▷▶]",
    re.IGNORECASE,
)
_CAPITALS = re.compile(r"\[/?[a-z]?[A-Z][A-Z_]+\]")
_HARMLESS = str.maketrans("<>[]◁▷◀▶", "‹›()‹›‹›")
_TURN = frozenset(">›»❯❱⟩〉≻➤")
# What looks like a colon, by the table of confusables of UTS 39 and the signs of that shape that it lacks. Some have
# another normal form. Signs of a script are a part of its own words, or end its own sentences; behind those of another
# one they are nothing but their shape.
_COLONS = "∶꞉ː˸׃܃܄᛬⁚⁝⦂፥፦᠄︰"
_SIGNS = {
    "\u0589": "\u0531-\u0588", "\u0903": "\u0904-\u094c", "\u0983": "\u0985-\u09cc", "\u0a03": "\u0a05-\u0a4c",
    "\u0a83": "\u0a85-\u0acc", "\u1361": "\u1200-\u135a", "\u1803": "\u1820-\u18aa", "\u1809": "\u1820-\u18aa",
    "\ua4fd": "\ua4d0-\ua4f7",
}  # fmt: skip
_COLON = re.compile("|".join([f"[{_COLONS}]", *(f"(?<![{letters}]){sign}" for sign, letters in _SIGNS.items())]))
_BREAKS = re.compile("[\u2028\u2029]")
_GAP = re.compile(r"\n\s*\n")
_RULED = re.compile(r"#{1,6}(?:\s|$)|#{2}|([-=_*#~`+])\1{2}")
_WORDS = re.compile(r"[^\W\d_]+")
_NAMED = "|".join(sorted(ROLES))
_SPEAKER = re.compile(rf"\W*(?:{_NAMED})\W{{0,3}}[>|=›»→\])}}]|[^\w\s|]+/?\s*(?:{_NAMED})\s*[^\w\s.,!?'’]")
_LABEL_WIDTH = 48
"""A label is no longer, in characters."""

# Lower-case letters that look like Latin ones, each before the one that it looks like: Cyrillic, Greek, Armenian, small
# capitals, letters with hooks and bars, Cherokee.
_ALIKE = """\
аa вb сc ԁd еe һh нh іi їi јj кk ӏl мm оo рp ԛq ѕs тt хx уy ԝw ьb гr αa βb εe γy ηn ιi κk νv οo ρp σo τt υu χx ωw
օo սu ոn ցg հh ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz
ɑa ɓb ƈc ɖd ɗd ɛe ɡg ɦh ıi ɩi ƙk łl ɫl ɱm ɲn øo ɾr ʂs ƭt ʈt ŧt đd ħh ʋv ƴy ʐz ꭺa ꭼe ꮋh ꮖi ꮶk ꮮl ꮇm ꮲp ꮪs ꭲt ꮤt ꮃw ꮓz"""
_LATIN = {ord(pair[0]): pair[1] for pair in _ALIKE.split()}
# Capitals whose small letter looks like another one.
_CAPITAL = str.maketrans("ΗΜΝΥΖ", "hmnyz")
# Letters in dark circles and squares, which have no normal form.
_SQUARED = {start + place: chr(ord("a") + place) for start in (0x1F150, 0x1F170) for place in range(26)}


def quoted(text: str, limit: int = TEXT_LIMIT, *, turns: bool = False) -> str:
    """`text` as data: cleaned, with no blank line, and no line or token that a prompt's structure is made of.

    Lines that open a part of a prompt, speak as a role, act (`>`) or are headings get `MARK` before them; the tokens of
    chat formats lose their brackets. Everything else stays as it is, and quoting twice is quoting once. `turns` lets
    lines with `>` be, for texts that a reflector made of turns whose observations it has quoted.
    """
    # What is held is no longer than what was asked for, however long the text is.
    return _quoted(clean(text, limit), limit, turns)


@lru_cache(1024)
def _quoted(whole: str, limit: int, turns: bool) -> str:
    """`quoted` of a text that is clean."""
    if not (whole.isascii() and whole.isprintable()):
        whole = _GAP.sub("\n", _BREAKS.sub("\n", whole)).strip()
    return clean("\n".join(_line(line, turns) for line in whole.split("\n")), limit)


def quoted_line(text: str, limit: int = TEXT_LIMIT) -> str:
    """`quoted`, on one line: for a name or a place within a sentence."""
    return quoted(" ".join(text.split()), limit)


def _line(line: str, turns: bool) -> str:
    plain = line if line.isascii() else _normal(line)
    safe = _bracketless(plain) if any(bracket in plain for bracket in "<>[]◁◀") else plain
    # What is no token stays as it was written, whatever its normal form.
    kept = line if safe == plain else safe
    return MARK + kept if _opens(safe, turns) else kept


def _normal(text: str) -> str:
    """`text` in normal form (NFKC), with plain colons, but for the ellipsis of a text that was cut."""
    return "…".join(unicodedata.normalize("NFKC", part) for part in _COLON.sub(":", text).split("…"))


def _bracketless(text: str) -> str:
    def harmless(found: re.Match[str]) -> str:
        return found.group().translate(_HARMLESS)

    return _CAPITALS.sub(harmless, TAGS.sub(harmless, text))


def _opens(line: str, turns: bool) -> bool:
    """Whether `line` would be read as the beginning of something else than text."""
    if line.startswith(MARK) or (turns and line.startswith(EXAMPLE)):
        return False
    shape = line.strip()
    if shape[:1] in _TURN:
        return not turns
    if _RULED.match(shape):
        return True
    head = _folded(shape[: 4 * _LABEL_WIDTH])
    if head.strip(" .,!*_-#'\"()") in ROLES or _SPEAKER.match(head):
        return True
    colon = head.find(":", 0, _LABEL_WIDTH)
    return colon >= 0 and _is_label(head[:colon])


def _is_label(head: str) -> bool:
    """Whether what stands before a colon names a part of a prompt: by itself, spaced out, or with a word or two."""
    words = _WORDS.findall(head)
    if not words:
        return False
    if _named("".join(words)):
        return True
    # One word of another script: whatever it says, it is a label in its language.
    if len(words) == 1 and not words[0].isascii():
        return True
    return len(words) <= 3 and (_named(words[0]) or _named(words[-1]))


def _named(word: str) -> bool:
    return word in LABELS or word.removesuffix("s") in LABELS


def _folded(text: str) -> str:
    """`text` as it looks: lower case, without accents, in Latin letters."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.translate(_SQUARED))
    bare = "".join(character for character in apart if not unicodedata.combining(character))
    return bare.translate(_CAPITAL).casefold().translate(_LATIN)
