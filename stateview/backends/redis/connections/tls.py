"""What a failure of TLS means to a user."""

from __future__ import annotations

import ssl

_EXPIRED = 10  # verify codes of OpenSSL
_OTHER_ADDRESS = (62, 64)  # a host name or an IP address
_ASKS = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")


def tls_hint(error: ssl.SSLError) -> str:
    """Return the next step after an error of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return "Renew the server's certificate, or set the clock of this machine"
        if error.verify_code in _OTHER_ADDRESS:
            return "Give the address that the server's certificate names"
        return "Give the file of the CA that signed it: add ?ssl_ca_certs=PATH to the store URL"
    if error.reason in _ASKS or isinstance(error, ssl.SSLEOFError):  # the server ends before its alert is read
        return "If the server asks for a certificate, add ssl_certfile=PATH&ssl_keyfile=PATH to the store URL"
    return "Check that this port speaks TLS, and the files of the options ssl_…"
