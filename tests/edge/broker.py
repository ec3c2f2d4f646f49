"""A real mosquitto with mutual TLS, from the system or unpacked from Debian's packages, which needs no root."""

import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PACKAGES = ("mosquitto", "libmosquitto1", "libcjson1", "libdlt2", "libwrap0")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "castline" / "mosquitto"


def mosquitto() -> tuple[Path, dict[str, str]]:
    """The broker's program and its environment; skips, saying why, where it can be had in no way."""
    if (found := shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")) is not None:
        return Path(found), dict(os.environ)
    program = _CACHE / "root" / "usr" / "sbin" / "mosquitto"
    if not program.is_file():
        try:
            part = _CACHE.with_name(f"mosquitto.{os.getpid()}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            subprocess.run(["apt-get", "download", *_PACKAGES], cwd=part, check=True, capture_output=True, timeout=120)
            for package in part.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, part / "root"], check=True, capture_output=True, timeout=60)
            shutil.rmtree(_CACHE, ignore_errors=True)
            part.replace(_CACHE)
        except (OSError, subprocess.SubprocessError) as error:
            if not program.is_file():  # another process may have been quicker
                pytest.skip(f"no mosquitto: not on the PATH, nor from Debian's packages ({error})")
    libraries = ":".join(str(path) for path in _CACHE.glob("root/usr/lib/*-linux-*"))
    return program, {**os.environ, "LD_LIBRARY_PATH": libraries}


@dataclass
class Authority:
    """A certificate authority, and certificates of its own: NAME.pem and NAME.key in `folder`, ca.pem."""

    folder: Path
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self._sign("ca", self._key, authority=True)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, for a server on loopback or a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return self._sign(name, key), path

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, authority: bool = False) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(self.folder.name))])
        subject = issuer if authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )  # fmt: skip
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        path = self.folder / f"{name}.pem"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


class Broker:
    """mosquitto on a port of loopback; only clients with a certificate of `authority` get in. Keeps what it was sent:
    with persistence, and a subscriber that is there before."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._program, self._environment = mosquitto()
        self._folder = folder
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        certificate, key = authority.issue("server")
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n"
            "require_certificate true\nallow_anonymous true\ntls_version tlsv1.2\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\nmax_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._settings], env=self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < end
                time.sleep(0.02)

    @property
    def log(self) -> str:
        """What it said of who came and went."""
        return (self._folder / "mosquitto.log").read_text()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
