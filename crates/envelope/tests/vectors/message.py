#!/usr/bin/env python3
"""Writes message.json: messages under a data key made without our code, from docs/formats.md alone.

HMAC and SHA-256 are Python's own, AES-256-GCM is that of pyca/cryptography (OpenSSL). The tests read
message.json; this script is kept to show where it comes from and to make it again:

    python3 message.py > message.json
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA_KEY = bytes(range(0x00, 0x20))
WRAPPED_KEY = bytes(range(0xA0, 0xB0))
SALT = bytes(range(0xB0, 0xC0))
IV = bytes(range(0xC0, 0xCC))


def kdf(parent, label, context, length):
    """SP 800-108r1 in counter mode with HMAC-SHA-256."""
    out = b""
    counter = 1
    while len(out) < length:
        fixed = struct.pack(">I", counter) + label + b"\0" + context + struct.pack(">I", length * 8)
        out += hmac.new(parent, fixed, hashlib.sha256).digest()
        counter += 1
    return out[:length]


def encoded(context):
    """Section 1: no context, or raw bytes."""
    return b"\x00" if not context else b"\x02" + struct.pack(">I", len(context)) + context


def seal(context, plaintext):
    prefix = bytes([0xCF, 1, 1, 0]) + hashlib.sha256(WRAPPED_KEY).digest()[:16]
    prefix += struct.pack(">I", len(WRAPPED_KEY))
    bound = hashlib.sha256(encoded(context)).digest()
    derived = kdf(DATA_KEY, b"twinkeep-message-v1", prefix + SALT + bound, 64)
    header = prefix + SALT + derived[32:]
    body = AESGCM(derived[:32]).encrypt(IV, plaintext, header + bound)
    return header + IV + body + WRAPPED_KEY


MESSAGES = [
    ("empty", b"", b""),
    ("short", b"", b"key management"),
    ("bound", b"order 7", b"key management"),
    ("long", bytes(range(256)), bytes(i & 0xFF for i in range(1000))),
]

print(
    json.dumps(
        {
            "about": "Messages under a data key, format 1, suite 1. Bytes in hex. Frozen; made by message.py.",
            "data_key": DATA_KEY.hex(),
            "wrapped_key": WRAPPED_KEY.hex(),
            "salt": SALT.hex(),
            "iv": IV.hex(),
            "messages": [
                {
                    "name": name,
                    "context": context.hex(),
                    "plaintext": plaintext.hex(),
                    "blob": seal(context, plaintext).hex(),
                }
                for name, context, plaintext in MESSAGES
            ],
        },
        indent=2,
    )
)
