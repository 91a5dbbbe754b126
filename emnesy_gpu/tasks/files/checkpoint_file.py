"""Checkpoints with a checksum, which ``torch.load(..., weights_only=True)`` reads like any other file.

A file of ``torch.save`` is a zip archive, but torch does not verify its checksums. So the comment at the end of the
archive holds the sha256 of all bytes before it.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from typing import Any

import torch

END_OF_ARCHIVE, END_LENGTH = b"PK\x05\x06", 22
"""How the last record of an archive without a comment begins, and its length; it ends in the length of the comment."""

MARK = b"sha256:"
COMMENT_LENGTH = len(MARK) + 2 * hashlib.sha256().digest_size


def encode(state: dict[str, Any]) -> bytes:
    """Return the content of a checkpoint: tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()[:-2] + struct.pack("<H", COMMENT_LENGTH)
    return content + MARK + hashlib.sha256(content).hexdigest().encode()


def decode(content: bytes) -> dict[str, Any]:
    """Return the state in the content of a checkpoint; ValueError says what is wrong with it.

    The checksum is verified before anything is read. Archives without a comment, as earlier versions wrote them, are
    read unverified.
    """
    body, comment = content[:-COMMENT_LENGTH], content[-COMMENT_LENGTH:]
    if comment.startswith(MARK):
        if comment[len(MARK) :] != hashlib.sha256(body).hexdigest().encode():
            raise ValueError("it is damaged: its sha256 is not the one it was written with")
    elif not (content[-END_LENGTH:].startswith(END_OF_ARCHIVE) and content.endswith(b"\0\0")):
        raise ValueError("it does not end as a checkpoint does: it was cut off, damaged, or is another file")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, pickle.UnpicklingError) as error:
        raise ValueError(str(error).strip().partition("\n")[0]) from error
    if not isinstance(state, dict):
        raise ValueError(f"it must hold a dict, got {type(state).__name__}")
    return state
