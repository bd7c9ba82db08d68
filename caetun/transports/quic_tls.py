"""What QUIC and its TLS 1.3 are set up with; certificates are those of `transports.tls`.

AES only: the fast way past aioquic takes its header protection masks from AES-ECB, and every machine that tunnels
gigabits has instructions for it.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import Final

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import CipherSuite, load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding

from caetun.errors import ConfigurationError
from caetun.transports import quic_congestion, tls
from caetun.transports.base import Context, Options
from caetun.transports.quic_connection import IDLE_SECONDS
from caetun.transports.quic_packets import CID_SIZE

# chosen by us
HANDSHAKE_DATAGRAM: Final = 1200
"""Bytes of datagrams before the path is known: what every path carries (RFC 9000 section 14)."""
MAX_FRAME: Final = 65535
"""Bytes of DATAGRAM frame taken in: whatever a packet holds (RFC 9221 section 3 recommends it)."""
INITIAL_RTT: Final = 0.1
"""Seconds assumed until measured: a lost first packet is sent again after twice that (RFC 9002 says 333 ms)."""


def _configuration(options: Options, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[options.alpn],
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384],
        congestion_control_algorithm=quic_congestion.NAME,
        connection_id_length=CID_SIZE,
        idle_timeout=IDLE_SECONDS,
        initial_rtt=INITIAL_RTT,
        max_datagram_frame_size=MAX_FRAME,
        max_datagram_size=HANDSHAKE_DATAGRAM,
        # No streams: nothing a far end could have us buffer there.
        max_data=0,
        max_stream_data=0,
    )


def server_configuration(context: Context) -> QuicConfiguration:
    """For connections that come in. Raises ConfigurationError or NetworkError."""
    options = context.options
    configuration = _configuration(options, is_client=False)
    certificate, key = tls.server_pem(options, context.report)
    try:
        chain = load_pem_x509_certificates(_certificates(certificate))
        configuration.certificate, configuration.certificate_chain = chain[0], chain[1:]
        configuration.private_key = load_pem_private_key(key)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--tls-cert, --tls-key: QUIC cannot use them: {error}") from error
    return configuration


def _certificates(pem: bytes) -> bytes:
    """The certificates in a file that may hold the key as well."""
    begin = b"-----BEGIN CERTIFICATE-----"
    return pem[pem.find(begin) :].partition(b"-----BEGIN PRIVATE KEY-----")[0] if begin in pem else pem


def client_configuration(host: str, options: Options) -> QuicConfiguration:
    """For a connection to a host."""
    configuration = _configuration(options, is_client=True)
    name = options.sni or host.partition("%")[0]
    strict = options.tls_verify == "strict" and not options.tls_pin
    configuration.verify_mode = ssl.CERT_REQUIRED if strict else ssl.CERT_NONE
    # In the Server Name Indication a name goes, no address (RFC 6066 section 3); verification takes both.
    configuration.server_name = name if strict or not _is_address(name) else None
    if strict:
        paths = ssl.get_default_verify_paths()
        configuration.cafile = str(options.tls_ca) if options.tls_ca else paths.cafile
        configuration.capath = None if options.tls_ca else paths.capath
    return configuration


def without_streams(quic: QuicConnection) -> QuicConnection:
    """Let the far end open no streams: aioquic's allowance is not part of its configuration."""
    quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = 0
    quic._local_max_streams_uni.value = quic._local_max_streams_uni.sent = 0
    return quic


def check_server(quic: QuicConnection, host: str, context: Context) -> None:
    """Judge the certificate that a server has shown, as for TLS over TCP. Raises NetworkError."""
    leaf = quic.tls._peer_certificate
    shown = [] if leaf is None else [leaf, *quic.tls._peer_certificate_chain]
    chain = [certificate.public_bytes(Encoding.DER) for certificate in shown]
    tls.check_certificate(chain, context.options, host, context.report)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
