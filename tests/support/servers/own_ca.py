"""A certificate authority of the test's own, and the certificates that it signs."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest


class OwnCA:
    """Writes `ca.pem`, and for each certificate `NAME.pem` and `NAME.key`, into a folder."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("cryptography", reason="certificates are made with cryptography, of the extra 'encryption'")
        self.folder = folder
        self.path = folder / "ca.pem"
        self._key, self._name = _new_key(), _name("a CA of the tests")
        self._write("ca", self._sign(self._name, self._key, is_ca=True))

    def issue(self, name: str, address: str = "127.0.0.1", *, expired: bool = False) -> tuple[Path, Path]:
        """Return the files of a new certificate for an address, and of its key."""
        key = _new_key()
        return self._write(name, self._sign(_name(name), key, address, expired=expired), key)

    def _sign(self, subject: Any, key: Any, address: str = "", *, is_ca: bool = False, expired: bool = False) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.UTC)
        days = datetime.timedelta(days=2)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * days)
            .not_valid_after(now - days if expired else now + days)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if address:
            names = [x509.IPAddress(ipaddress.ip_address(address))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: Any, key: Any = None) -> tuple[Path, Path]:
        from cryptography.hazmat.primitives import serialization as form

        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(form.Encoding.PEM))
        if key is not None:
            secret = form.PrivateFormat.PKCS8, form.NoEncryption()
            paths[1].write_bytes(key.private_bytes(form.Encoding.PEM, *secret))
        return paths


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
