"""TLS, MQTT 3.1.1 and Sparkplug: the bridge over each of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.sensors.broker import LocalBroker, free_port, mosquitto
from agents.sensors.config import MqttSection
from capabilities.messages import Sample
from capabilities.sensors.sparkplug import schema
from tests.agents.sensors.test_bridge import bridging, section, send, until, values

pytestmark = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate of 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "broker.pem", folder / "broker.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


def test_a_broker_is_known_by_its_certificate(tmp_path: Path) -> None:
    pem, secret = certificate(tmp_path)
    port = free_port()
    tls = (f"listener {port} 127.0.0.1", f"certfile {pem}", f"keyfile {secret}", f"cafile {pem}")
    broker = LocalBroker(tmp_path / "broker", port=port, extra=tls)
    broker.start()

    async def main() -> None:
        given = section(broker, tls=True, ca_file=pem)
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        async with bridging(tmp_path / "stranger", section(broker, tls=True)) as (bridge, _):
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in bridge.trouble, "the refusal")
            assert not bridge.connected

    try:
        asyncio.run(main())
    finally:
        broker.kill()


def test_an_old_broker_keeps_a_session_as_well(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "broker")
    broker.start()

    async def main() -> None:
        given = section(broker, version="3.1.1")
        async with bridging(tmp_path / "node", given) as (bridge, _):
            await until(lambda: bridge.connected, "the broker")
        await send(broker, range(40))
        async with bridging(tmp_path / "node", given) as (bridge, desk):
            await until(lambda: len(values(desk)) == 40, "what came meanwhile")
            assert values(desk) == list(range(40))

    try:
        asyncio.run(main())
    finally:
        broker.kill()


def test_sparkplug_comes_over_the_broker_and_a_birth_is_asked_for(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path / "broker")
    broker.start()
    mapping = {
        "topic": "spBv1.0/{group}/{kind}/{node}",
        "name": "data.gpt/plant/raw",
        "key": "{group}/{node}",
        "format": "sparkplug",
    }
    payload = schema()[0]
    birth = payload(timestamp=1767225600000, seq=0)
    birth.metrics.add(name="temp", alias=7, datatype=9, float_value=20.5)
    data = payload(timestamp=1767225601000, seq=1)
    data.metrics.add(alias=7, float_value=21.5)

    async def main() -> None:
        given = MqttSection(port=broker.port, map=(mapping,))  # type: ignore[arg-type]
        async with (
            bridging(tmp_path / "node", given) as (bridge, desk),
            aiomqtt.Client(broker.host, broker.port) as edge,
        ):
            await until(lambda: bridge.connected, "the broker")
            await edge.subscribe("spBv1.0/g/NCMD/e", qos=0)
            await edge.publish("spBv1.0/g/NDATA/e", data.SerializeToString(), qos=1)
            async with asyncio.timeout(20):
                command = await anext(edge.messages)
            asked = payload.FromString(bytes(command.payload))
            assert asked.metrics[0].name == "Node Control/Rebirth"
            await edge.publish("spBv1.0/g/NBIRTH/e", birth.SerializeToString(), qos=1)
            await edge.publish("spBv1.0/g/NDATA/e", data.SerializeToString(), qos=1)
            await until(lambda: bridge.all_counters()["mqtt_published"] == 2, "both")
            value = desk.feed("data.gpt/plant/raw").log.latest["g/e"].value
            assert isinstance(value, Sample)
            assert (value.values, value.at) == ({"temp": 21.5}, 1767225601.0)
            assert bridge.all_counters()["mqtt_lost"] == 0
            await edge.publish("spBv1.0/g/NDEATH/e", payload().SerializeToString(), qos=1)
            await until(lambda: not desk.feed("data.gpt/plant/raw").log.latest, "the death")

    try:
        asyncio.run(main())
    finally:
        broker.kill()
