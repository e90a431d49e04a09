"""TLS for the tests: URIs for libnbd, options for qemu, and Python's TLS under our own client."""

import socket
import ssl
import threading
import urllib.parse

from support import nbd_client
from support.nbd_client import OPT_STARTTLS, REP_ACK


def uri(server, export_name="", user="", **query):
    """nbds:// or nbds+unix:// for libnbd; `query` as in tls_certificates=DIR."""
    plain = server.uri(export_name)
    scheme, rest = plain.split("://", 1)
    more = urllib.parse.urlencode({key.replace("_", "-"): value for key, value in query.items()})
    joint = "&" if "?" in rest else "?"
    user = f"{user}@" if user else ""
    return f"{scheme.replace('nbd', 'nbds')}://{user}{rest}" + (joint + more if more else "")


def qemu_options(server, credentials, export_name=""):
    """Arguments for qemu-img: an object with credentials, and the image that uses it."""
    if isinstance(server.address, str):
        where = f"server.type=unix,server.path={server.address}"
    else:
        host, port = server.address
        where = f"server.type=inet,server.host={host},server.port={port}"
    image = f"driver=nbd,{where},export={export_name},tls-creds=tls0"
    if isinstance(server.address, str):
        image += ",tls-hostname=localhost" if "x509" in credentials else ""
    return ["--object", f"{credentials},id=tls0,endpoint=client"], image


def context(pki, certificate=None):
    """A context for Python: trusts our authority, shows a certificate if one is named."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(pki / "ca-cert.pem")
    if certificate:
        made.load_cert_chain(pki / f"{certificate}-cert.pem", pki / f"{certificate}-key.pem")
    return made


def start_tls(client, tls_context):
    """STARTTLS on a client that has greeted, and the TLS handshake; the same client goes on."""
    assert client.option_type(OPT_STARTTLS) == REP_ACK
    client.socket = tls_context.wrap_socket(client.socket, server_hostname="localhost")
    return client


class Relay:
    """Lets a TLS program that knows nothing of NBD talk to a server: whoever connects to `port`
    comes out behind STARTTLS. For one connection.
    """

    def __init__(self, server):
        self.client = nbd_client.Client(server.connect()).greet()
        assert self.client.option_type(OPT_STARTTLS) == REP_ACK
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends = [self.client.socket]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            program, _ = self.listener.accept()
        except OSError:
            return
        self.ends.append(program)
        back = threading.Thread(target=_forward, args=(self.ends[0], program), daemon=True)
        back.start()
        _forward(program, self.ends[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for end in self.ends:
            end.close()


def _forward(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def connect(server, tls_context):
    """A client behind STARTTLS that has negotiated nothing yet."""
    return start_tls(nbd_client.Client(server.connect()).greet(), tls_context)


def client(server, tls_context, export_name=""):
    """A client in the transmission phase."""
    return connect(server, tls_context).go(export_name)
