"""The shipped Mosquitto configuration in a real broker: TLS, accounts and ACL made by the documented commands."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiomqtt

from tests.conftest import missing
from tests.servers import HOST, Mosquitto, find_program

SHIPPED: Final = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto"
V311: Final = aiomqtt.ProtocolVersion.V311
V5: Final = aiomqtt.ProtocolVersion.V5


@dataclass(frozen=True, slots=True)
class Deployed:
    """A broker of the shipped configuration, the CA of its certificate, and the passwords of its accounts.

    Attributes:
        broker: it runs.
        folder: for files of the test's own.
        passwords: by account.
        ca: PEM file.
    """

    broker: Mosquitto
    folder: Path
    passwords: Mapping[str, str]
    ca: Path

    def client(
        self,
        name: str | None,
        *,
        password: str | None = None,
        keep_session: bool = False,
        version: aiomqtt.ProtocolVersion = V311,
    ) -> aiomqtt.Client:
        """A client that logs in under a name, None for nobody's; a kept session queues while it is away."""
        return aiomqtt.Client(
            self.broker.host,
            self.broker.port,
            username=name,
            password=None if name is None else password or self.passwords.get(name),
            identifier=f"{name}-test" if keep_session else None,
            protocol=version,
            clean_session=not keep_session if version is V311 else None,
            tls_context=ssl.create_default_context(cafile=self.ca),
        )

    def login(self, account: str) -> list[str]:
        """Options with which the project's own programs come in as an account."""
        secret = self.folder / f"{account}.password"
        secret.write_text(self.passwords[account] + "\n")
        address = ["--broker", self.broker.host, "--port", str(self.broker.port), "--tls-ca", str(self.ca)]
        return [*address, "--username", account, "--password-file", str(secret)]


def deploy(start_mosquitto: Callable[..., Mosquitto], folder: Path, *extra_conf: str) -> Deployed:
    """Make certificates and accounts, and start the broker."""
    passwd_tool = find_program("mosquitto_passwd")
    if passwd_tool is None or find_program("openssl") is None:
        missing("mosquitto_passwd or openssl is not installed: apt-get install mosquitto openssl")
    environment = os.environ | {
        "ACCOUNTS_FILE": str(folder / "passwd"),
        "SECRET_FILE": str(folder / "secret"),
        "CERTIFICATES": str(folder),
        "BROKER_UID": str(os.getuid()),
        "SERVICE_UID": str(os.getuid()),
        "PATH": f"{passwd_tool.parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(script: str, *arguments: str) -> str:
        command = ["/bin/sh", str(SHIPPED / script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("certificates.sh", HOST, "localhost")
    assert run("accounts.sh") == "created the account har-stream"
    assert run("accounts.sh") == "accounts exist"
    passwords = {name: run("accounts.sh", name) for name in ("watch-1", "watch-2")}
    passwords |= {role: run("accounts.sh", "--role", role) for role in ("home-assistant", "reader", "simulator")}
    passwords["har-stream"] = (folder / "secret").read_text().strip()

    template = (SHIPPED / "mosquitto.conf").read_text()
    for shipped, here in [
        ("listener 8883", "listener {port} {host}"),
        ("/mosquitto/certificates/", f"{folder}/"),
        ("/mosquitto/accounts/passwd", str(folder / "passwd")),
        ("/mosquitto/config/acl", str(SHIPPED / "acl")),
        ("/mosquitto/data/", "{folder}/"),
    ]:
        assert shipped in template
        template = template.replace(shipped, here)
    return Deployed(start_mosquitto(*extra_conf, template=template), folder, passwords, folder / "ca.crt")
