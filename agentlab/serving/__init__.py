"""What was learned, served to other programs: OpenAI's protocol for chats in front of a lab's model, with its memory.

Before an answer, what the client's namespace remembers and fits the message is put into the prompt, as data; after it,
what the user has stated in the message is noted there. A client has its own namespace by its key.
"""

from __future__ import annotations
