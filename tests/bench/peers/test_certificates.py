from __future__ import annotations

import ssl
from pathlib import Path

from tests.bench.peers.certificates import HOST, make_certificates


def handshake(
    server: ssl.SSLObject, client: ssl.SSLObject, pipes: list[tuple[ssl.MemoryBIO, ssl.MemoryBIO]]
) -> None:
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            finally:
                for source, target in pipes:
                    target.write(source.read())


def test_both_sides_accept_the_certificate_for_this_machines_address(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    for context in contexts:
        context.load_verify_locations(made.ca)
        context.load_cert_chain(made.certificate, made.key)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_client, from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts[0].wrap_bio(to_server, from_server, server_side=True)
    client = contexts[1].wrap_bio(to_client, from_client, server_hostname=HOST)
    handshake(server, client, [(from_server, to_client), (from_client, to_server)])
    assert client.getpeercert() is not None
    assert server.getpeercert() is not None
