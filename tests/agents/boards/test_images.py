"""What a card's boot partition gets, and what it must not show."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from agents.boards import images
from agents.boards.images import INVITATION, Image
from agents.faces.cli.app import app
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.identity import ID_BYTES
from mesh.core.invitations import SECRET_BYTES, Token

TOKEN = Token(
    mesh=bytes(range(ID_BYTES)),
    curve=bytes(range(32)),
    secret=bytes(range(SECRET_BYTES)),
    addresses=("tcp://10.0.0.5:7102",),
    name="",
).text()
IMAGE = Image(
    hostname="shed",
    invitation=TOKEN,
    url="https://example.org/install.sh",
    ssh_keys=("ssh-ed25519 AAAAC3Nz me@home",),
    wifi="A 'quoted' net",
    wifi_password="p$ss word'1",
    country="NL",
)


def test_cloud_init_gets_valid_yaml_with_the_invitation_in_a_private_file() -> None:
    files = images.cloud_init(IMAGE)
    assert files["user-data"].startswith("#cloud-config\n")
    config = yaml.safe_load(files["user-data"])
    kept = {entry["path"]: entry for entry in config["write_files"]}
    assert kept[INVITATION]["permissions"] == "0600"
    assert kept[INVITATION]["content"].strip() == TOKEN
    network = yaml.safe_load(files["network-config"])
    points = network["wifis"]["wlan0"]["access-points"]
    assert points == {"A 'quoted' net": {"password": "p$ss word'1"}}


def test_the_invitation_stands_in_no_command_and_is_wiped_from_the_card() -> None:
    config = yaml.safe_load(images.cloud_init(IMAGE)["user-data"])
    assert TOKEN not in json.dumps(config["runcmd"])
    script = images.installing(IMAGE)
    assert TOKEN not in script
    assert "/boot/firmware/user-data" in script
    # The wiping's own pattern takes the whole token.
    card = f"before {TOKEN} after"
    done = subprocess.run(
        ["sed", "s/gossamer1[.][A-Za-z0-9_-]*/redeemed/g"],
        input=card,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "before redeemed after"


@pytest.mark.parametrize("kind", images.KINDS)
def test_the_scripts_are_sound_shell(tmp_path: Path, kind: str) -> None:
    written = images.write(IMAGE, kind, tmp_path)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    script = tmp_path / "script"
    script.write_text(images.firstrun(IMAGE) if kind == "firstrun" else images.installing(IMAGE))
    shell = "bash" if kind == "firstrun" else "sh"
    subprocess.run([shell, "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-S", "warning", str(script)], check=True)


def test_firstrun_writes_what_it_was_told_byte_for_byte(tmp_path: Path) -> None:
    block = images._here(str(tmp_path / "kept"), "it's $HOME `x` \\ \n", "0600")
    subprocess.run(["bash", "-c", block], check=True)
    assert (tmp_path / "kept").read_text() == "it's $HOME `x` \\ \n"
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hostname": "a b"}, "no host name"),
        ({"hostname": "x; rm -rf /"}, "no host name"),
        ({"user": "pi; x"}, "no user name"),
        ({"ssh_keys": ("not a key",)}, "no public ssh key"),
        ({"url": "ftp://x"}, "no URL"),
        ({"wifi": "a\nb"}, "control character"),
        ({"wifi_password": "short"}, "8 to 63"),
        ({"country": ""}, "country"),
    ],
)
def test_what_would_not_boot_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        images.check(msgspec.structs.replace(IMAGE, **change))


def test_what_is_no_invitation_is_refused() -> None:
    with pytest.raises(GossamerError):
        images.check(msgspec.structs.replace(IMAGE, invitation="hello"))


def test_the_command_takes_the_invitation_from_standard_input_and_does_not_show_it(
    tmp_path: Path,
) -> None:
    words = ["board", "image-config", "-o", str(tmp_path), "--hostname", "shed", "--url"]
    done = CliRunner().invoke(app, [*words, "https://example.org/install.sh"], input=TOKEN + "\n")
    assert done.exit_code == 0, done.output
    assert TOKEN not in done.output
    assert TOKEN in (tmp_path / "user-data").read_text()
