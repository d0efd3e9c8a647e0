"""A real Mosquitto on a free port of loopback, in the clear or with TLS and client certificates; to be killed and
started again on the same port.
"""

from __future__ import annotations

import atexit
import datetime as dt
import ipaddress
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from getpass import getuser
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection, TlsSection
from tests.runtime.command_line import PATIENCE_S, wait_for
from tests.venues.listening import HOST, bound_socket

MOSQUITTO = "/usr/sbin/mosquitto"
_HELD: list[socket.socket] = []  # ports that were given out


@atexit.register
def _let_go() -> None:
    for one in _HELD:
        one.close()


class Certificates(NamedTuple):
    """One authority, and what it vouches for: the broker, and a client."""

    ca_file: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


class Mosquitto:
    """A broker that is started and ended by the tests; `config` are further lines of its configuration."""

    def __init__(self, folder: Path, certificates: Certificates | None = None, config: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.certificates = certificates
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} {HOST}",
            "allow_anonymous true",
            "log_dest stderr",
            "log_type all",
            f"user {getuser()}",
            *config,
        ]
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca_file}",
                f"certfile {certificates.server_cert}",
                f"keyfile {certificates.server_key}",
                "require_certificate true",
            ]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def pid(self) -> int:
        """Process id of the broker that runs now."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All it has said."""
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and return once it listens."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=log, stdout=log)
        wait_for(lambda: is_open(self.port) or self._process is None or self._process.poll() is not None)
        assert self._process.poll() is None, self.log

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def mqtt(self, **fields: Any) -> dict[str, Any]:
        """Return the mqtt section of a desk file for it, as plain data."""
        found: dict[str, Any] = {"host": HOST, "port": self.port, **fields}
        if self.certificates is not None:
            found.setdefault("tls", tls_section(self.certificates))
        return found

    def broker(self, **fields: Any) -> Broker:
        """Return the way to it for a client of ours."""
        return Broker(MqttSection.model_validate(self.mqtt(**fields)), {})

    def arguments(self) -> list[str]:
        """Return what mosquitto_sub and mosquitto_pub need to reach it."""
        found = ["-h", HOST, "-p", str(self.port)]
        if self.certificates is not None:
            one = self.certificates
            found += ["--cafile", str(one.ca_file), "--cert", str(one.client_cert), "--key", str(one.client_key)]
        return found

    def heard(self, topic: str, count: int, *options: str, patience_s: float = PATIENCE_S) -> list[tuple[str, str]]:
        """Return topic and payload of so many messages, as a stock mosquitto_sub hears them."""
        command = ["mosquitto_sub", *self.arguments(), "-V", "5", "-t", topic, "-C", str(count), "-v", *options]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patience_s).stdout
        return [(line.partition(" ")[0], line.partition(" ")[2]) for line in out.splitlines()]


@contextmanager
def mosquitto(certificates: Certificates | None = None, config: Sequence[str] = ()) -> Iterator[Mosquitto]:
    """Run a broker for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="ek-mqtt-") as folder:
        broker = Mosquitto(Path(folder), certificates, config)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()


def tls_section(certificates: Certificates, *, is_known: bool = True) -> dict[str, str]:
    """Return the tls section of a desk file; without our own certificate if we are not to be known."""
    found = {"ca_file": str(certificates.ca_file)}
    if is_known:
        found |= {"cert_file": str(certificates.client_cert), "key_file": str(certificates.client_key)}
    TlsSection.model_validate(found)
    return found


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and certificates for the broker on loopback and for one client."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("Test authority", ca_key, None)
    paths = [_write(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))]
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, (ca, ca_key))
        paths.append(_write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        paths.append(_write(folder / f"{name}.key", pem))
    return Certificates(*paths)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    by = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(by, hashes.SHA256())


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def free_port() -> int:
    """Return a port of loopback that nobody listens at, and that nobody is given until this process ends.

    A socket stays bound to it without listening: whoever is told the number may listen there, as servers bind with
    SO_REUSEADDR, and the other worker, or a connection on its way out, is given another one meanwhile.
    """
    one = bound_socket()
    _HELD.append(one)
    port: int = one.getsockname()[1]
    return port


def is_open(port: int) -> bool:
    """Tell whether somebody listens at a port of loopback."""
    with closing(socket.socket()) as one:
        one.settimeout(1.0)
        return one.connect_ex((HOST, port)) == 0
