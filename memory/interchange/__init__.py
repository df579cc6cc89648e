"""Files in and out, and the trust boundary: what comes from outside is data and claims nothing for itself."""

from __future__ import annotations

from memory.interchange.admission import NAME_LIMIT, admitted
from memory.interchange.documents import FILE as FILE_LIMIT
from memory.interchange.documents import MIB
from memory.interchange.documents import values as read_values
from memory.interchange.foreign import NOTE
from memory.interchange.remembering import remember
from memory.interchange.transfer import export_reflections, import_reflections
from memory.store.origins import CLIENTS

__all__ = [
    "CLIENTS",
    "FILE_LIMIT",
    "MIB",
    "NAME_LIMIT",
    "NOTE",
    "admitted",
    "export_reflections",
    "import_reflections",
    "read_values",
    "remember",
]
