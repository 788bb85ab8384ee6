#!/usr/bin/env python3
"""Writes file.json: files of format 1 made without our code, from docs/formats.md alone.

HMAC and SHA-256 are Python's own, AES-256-GCM is that of pyca/cryptography (OpenSSL). The tests
read file.json; this script is kept to show where it comes from and to make it again:

    python3 file.py > file.json
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA_KEY = bytes(range(0x00, 0x20))
SALT = bytes(range(0x40, 0x60))
WRAPPED_KEY = bytes(range(0xA0, 0xB0))


def kdf(parent, label, context, length):
    """SP 800-108r1 in counter mode with HMAC-SHA-256."""
    out = b""
    counter = 1
    while len(out) < length:
        fixed = struct.pack(">I", counter) + label + b"\0" + context + struct.pack(">I", length * 8)
        out += hmac.new(parent, fixed, hashlib.sha256).digest()
        counter += 1
    return out[:length]


def nonce(number, kind):
    return bytes(3) + struct.pack(">QB", number, kind)


def metadata(name=None, mode=None, modified=None):
    fields = b""
    if name is not None:
        fields += bytes([1, len(name)]) + name
    if mode is not None:
        fields += bytes([2, 2]) + struct.pack(">H", mode)
    if modified is not None:
        fields += bytes([3, 12]) + struct.pack(">qI", *modified)
    return fields.ljust(288, b"\0")


def plaintext(length):
    return bytes((i * 7 + (i >> 8)) & 0xFF for i in range(length))


def seal(exponent, encoded, content):
    size = 1 << exponent
    header = b"\xcdTWKFILE" + bytes([1, 1, exponent, 0]) + struct.pack(">H", len(WRAPPED_KEY))
    header += SALT + WRAPPED_KEY
    derived = kdf(DATA_KEY, b"twinkeep-file-v1", hashlib.sha256(header).digest(), 64)
    cipher = AESGCM(derived[:32])
    out = header + derived[32:] + cipher.encrypt(nonce(0, 2), encoded, None)
    chunks = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    for number, chunk in enumerate(chunks):
        kind = 1 if number == len(chunks) - 1 else 0
        out += cipher.encrypt(nonce(number, kind), chunk, None)
    return derived, out


def case(title, exponent, length, **fields):
    encoded = metadata(**fields)
    derived, sealed = seal(exponent, encoded, plaintext(length))
    vector = {
        "name": title,
        "chunk_size_exponent": exponent,
        "metadata": encoded.hex(),
        "plaintext_bytes": length,
        "file_key": derived[:32].hex(),
        "commitment": derived[32:].hex(),
        "sha256": hashlib.sha256(sealed).hexdigest(),
    }
    if length <= 64:
        vector["file"] = sealed.hex()
    return vector


REPORT = {"name": b"report.pdf", "mode": 0o640, "modified": (1_800_000_000, 123_456_789)}
print(
    json.dumps(
        {
            "about": "File format 1, suite 1, by file.py: Python's hmac and hashlib, pyca's AES-GCM. Bytes in hex; "
            "byte i of a plaintext is the low byte of 7i + (i >> 8). Frozen: a change of these breaks every "
            "encrypted file.",
            "data_key": DATA_KEY.hex(),
            "salt": SALT.hex(),
            "wrapped_key": WRAPPED_KEY.hex(),
            "files": [
                case("empty, without metadata", 16, 0),
                case("one short chunk", 16, 14, **REPORT),
                case("one full chunk", 16, 1 << 16, **REPORT),
                case("a byte behind a full chunk", 16, (1 << 16) + 1, **REPORT),
                case("three chunks and a piece", 16, 3 * (1 << 16) + 1000, **REPORT),
                case("the largest chunks", 22, (1 << 22) + 5, **REPORT),
            ],
        },
        indent=2,
    )
)
