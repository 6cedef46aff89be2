"""Make sealed.json: sealed forms and a keyring that no code of stateview made.

OpenSSL's command line does AES: CMAC derives the key of a message, CTR encrypts, ECB gives the hash key and the mask of
the tag. GHASH is a multiplication of integers here. Run it as `python make_vectors.py > sealed.json`.
"""

import base64
import hashlib
import hmac
import json
import subprocess


def openssl(*command, data):
    return subprocess.run(["openssl", *command], input=data, capture_output=True, check=True).stdout


def cmac(key, data):
    return openssl(
        "mac", "-cipher", "AES-256-CBC", "-macopt", f"hexkey:{key.hex()}", "-binary", "-in", "/dev/stdin", "CMAC",
        data=data,
    )  # fmt: skip


def ecb(key, block):
    return openssl("enc", "-aes-256-ecb", "-nopad", "-K", key.hex(), data=block)


def ctr(key, counter_block, data):
    return openssl("enc", "-aes-256-ctr", "-K", key.hex(), "-iv", counter_block.hex(), data=data)


def times(x, y):
    """Multiply in GF(2**128) as NIST SP 800-38D, 6.3, does: bit 0 is the highest."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def ghash(hash_key, associated, ciphertext):
    total = 0
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, ciphertext))
    padded += (len(associated) * 8).to_bytes(8, "big") + (len(ciphertext) * 8).to_bytes(8, "big")
    for at in range(0, len(padded), 16):
        total = times(total ^ int.from_bytes(padded[at : at + 16], "big"), hash_key)
    return total


def xaes(key, nonce, plaintext, associated):
    message_key = b"".join(cmac(key, bytes((0, count)) + b"X\0" + nonce[:12]) for count in (1, 2))
    ciphertext = ctr(message_key, nonce[12:] + b"\0\0\0\2", plaintext) if plaintext else b""
    hash_key = int.from_bytes(ecb(message_key, bytes(16)), "big")
    mask = int.from_bytes(ecb(message_key, nonce[12:] + b"\0\0\0\1"), "big")
    return nonce + ciphertext + (ghash(hash_key, associated, ciphertext) ^ mask).to_bytes(16, "big")


def fields(*parts):
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def nonce(text):
    return hashlib.sha256(text.encode()).digest()[:24]


def compressed(byte, count):
    """A Zstandard frame (RFC 8878) of one byte, repeated: a single segment, its size, a last block of type RLE."""
    frame = bytes.fromhex("28b52ffd20") + bytes((count,)) + (count << 3 | 0b011).to_bytes(3, "little") + byte
    return b"\1" + count.to_bytes(4, "big") + frame


def form(data_key, key_id, namespace, purpose, key, revision, base, packed):
    header = b"\x01" + key_id
    associated = fields(
        header, purpose.encode(), namespace.encode(), key.encode(), revision.to_bytes(8, "big"), base.to_bytes(8, "big")
    )
    return header + xaes(data_key, nonce(f"{purpose} {key} {revision}"), packed, associated)


def wrapper(label, root, scrypt, namespace, data_keys):
    user_key_id = hmac.digest(root, b"stateview id of a user key", "sha256")[:6].hex()
    wrapping = hmac.digest(root, b"stateview wrapping key", "sha256")
    wrapped = {
        key_id.hex(): base64.b64encode(
            xaes(
                wrapping,
                nonce(label + key_id.hex()),
                data_key,
                fields(b"stateview data key", namespace.encode(), user_key_id.encode(), key_id.hex().encode()),
            )
        ).decode()
        for key_id, data_key in data_keys.items()
    }
    created = "2026-11-28T10:00:00Z"
    return {"id": user_key_id, "label": label, "created": created, "scrypt": scrypt, "data_keys": wrapped}


def keyring(namespace, data_keys, current, wrappers):
    ring = {"format": 1, "state": "rotating", "current": current.hex(), "wrappers": wrappers, "mac": ""}
    text = json.dumps(ring, separators=(",", ":"))
    key = b"".join(key_id + data_keys[key_id] for key_id in sorted(data_keys))
    signed = fields(b"stateview keyring", namespace.encode(), text.encode())
    return text.replace('"mac":""', f'"mac":"{hmac.digest(key, signed, "sha256").hex()}"')


def packed(key, content):
    return compressed(content[:1], len(content)) if key == "long" else b"\0" + content


def main():
    namespace = "the namespace"
    data_keys = {bytes.fromhex("0000beef"): bytes(range(32)), bytes.fromhex("cafe0001"): bytes(range(32, 64))}
    old, current = data_keys
    random = bytes(range(100, 132))
    body = base64.b32encode(random + hashlib.sha256(random).digest()[:3]).decode().lower()
    scrypt = {"salt": "00112233445566778899aabbccddeeff", "n": 16384, "r": 8, "p": 1}
    derived = hashlib.scrypt(
        b"caf\xc3\xa9 au lait", salt=bytes.fromhex(scrypt["salt"]), n=16384, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    wrappers = [
        wrapper("laptop", random, None, namespace, data_keys),
        wrapper("words", derived, scrypt, namespace, data_keys),
    ]
    forms = [
        ("value", "a", 7, 0, current, b'{"a":[1,2]}'),
        ("value", "a", 6, 0, old, b"null"),
        ("delta", "clé", 5, 7, current, bytes(range(40))),
        ("reason", "", 9, 0, current, "schön".encode()),
        ("author", "", 9, 0, current, b""),
        ("note", "before", 9, 0, current, b"a note"),
        ("value", "long", 9, 0, current, b"7" * 200),
    ]
    vectors = {
        "namespace": namespace,
        "user_keys": [
            "svk1-" + "-".join(body[at : at + 4] for at in range(0, 56, 4)),
            "passphrase:cafe\N{COMBINING ACUTE ACCENT} au lait",
        ],
        "data_keys": {key_id.hex(): key.hex() for key_id, key in data_keys.items()},
        "keyring": keyring(namespace, data_keys, current, wrappers),
        "forms": [
            {
                "purpose": purpose,
                "key": key,
                "revision": revision,
                "base": base,
                "content": content.hex(),
                "sealed": form(data_keys[by], by, namespace, purpose, key, revision, base, packed(key, content)).hex(),
            }
            for purpose, key, revision, base, by, content in forms
        ],
        "messages": [
            {
                "key": key.hex(),
                "associated": associated.hex(),
                "plaintext": plaintext.hex(),
                "sealed": xaes(key, nonce(text), plaintext, associated).hex(),
            }
            for text, key, associated, plaintext in (
                ("empty", bytes(32), b"", b""),
                ("one block", b"\xff" * 32, b"", bytes(16)),
                ("associated alone", bytes(range(32)), bytes(range(20)), b""),
                ("several blocks", hashlib.sha256(b"key").digest(), bytes(range(33)), bytes(range(100))),
                ("the other carry", b"\x03" * 32, b"a", b"stateview"),
            )
        ],
    }
    print(json.dumps(vectors, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
