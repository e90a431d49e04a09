"""Certificates and keys for the TLS tests, made by GnuTLS's certtool and psktool.

A folder holds what libnbd and qemu look for by name (ca-cert.pem, client-cert.pem, client-key.pem,
keys.psk), so that it can be given to them as it is.
"""

import pathlib

from support import images

USERS = ("alice", "backup", "reader")


def make_authority(folder, name="ca"):
    """NAME-cert.pem and NAME-key.pem: an authority that signs for itself."""
    _template(folder, name, "cn = The authority of the tests", "ca", "cert_signing_key")
    _key(folder, name)
    _certtool(folder, name, "--generate-self-signed")


def make_certificate(folder, name, *lines, authority="ca"):
    """NAME-cert.pem and NAME-key.pem, signed by the authority; `lines` go into its template."""
    _template(folder, name, "signing_key", "encryption_key", *lines)
    _key(folder, name)
    _certtool(
        folder,
        name,
        "--generate-certificate",
        "--load-ca-certificate",
        folder / f"{authority}-cert.pem",
        "--load-ca-privkey",
        folder / f"{authority}-key.pem",
    )


def make_server_certificate(folder, name="server", *lines, authority="ca"):
    names = ("cn = localhost", "dns_name = localhost", "ip_address = 127.0.0.1", "ip_address = ::1")
    make_certificate(folder, name, *names, "tls_www_server", *lines, authority=authority)


def make_client_certificate(folder, name="client", cn="node-1", *lines, authority="ca"):
    names = (f'cn = "{cn}"', 'organization = "Example"')
    make_certificate(folder, name, *names, "tls_www_client", *lines, authority=authority)


def make_keys(folder, users=USERS):
    """keys.psk"""
    for user in users:
        images.command("psktool", "-u", user, "-p", folder / "keys.psk")


def make_all(folder):
    """An authority, certificates of a server and a client, and keys."""
    folder = pathlib.Path(folder)
    make_authority(folder)
    make_server_certificate(folder)
    make_client_certificate(folder)
    make_keys(folder)
    return folder


EXPIRED = ('activation_date = "2020-01-01 00:00:00"', 'expiration_date = "2020-02-01 00:00:00"')


def _template(folder, name, *lines):
    dates = () if any("expiration_date" in line for line in lines) else ("expiration_days = 30",)
    (folder / f"{name}.template").write_text("\n".join((*lines, *dates)) + "\n")


def _key(folder, name):
    images.command(
        "certtool",
        "--generate-privkey",
        "--key-type=ecdsa",
        "--curve=secp256r1",
        "--outfile",
        folder / f"{name}-key.pem",
    )


def _certtool(folder, name, *arguments):
    images.command(
        "certtool",
        *arguments,
        "--load-privkey",
        folder / f"{name}-key.pem",
        "--template",
        folder / f"{name}.template",
        "--outfile",
        folder / f"{name}-cert.pem",
    )
