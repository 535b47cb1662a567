"""The root certificate that Vast's own asynchronous client fetches before its first call.

It signs nothing: a local market speaks plain HTTP. The client fetches it from a fixed address, unless its
``SSL_CERT_URL`` is set to that of this market.
"""

from __future__ import annotations

import datetime as dt
import functools

_VALID_DAYS = 3650


@functools.cache
def root_certificate() -> str:
    """Make a certificate, as PEM; its private key is thrown away."""
    # Imported late: few clients ask for it, and the import would slow down every start of a market.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local market")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
