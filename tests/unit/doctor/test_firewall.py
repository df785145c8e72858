from __future__ import annotations

import pytest

from p2pfl.doctor.firewall import open_here, open_there


def having(*tools: str) -> dict[str, str]:
    return {tool: f"/usr/bin/{tool}" for tool in tools}


@pytest.mark.parametrize(
    ("tools", "commands"),
    [
        (("ufw", "iptables"), ("sudo ufw allow 9000/tcp",)),
        (
            ("firewall-cmd", "nft"),
            ("sudo firewall-cmd --permanent --add-port=9000/tcp", "sudo firewall-cmd --reload"),
        ),
        (("nft", "iptables"), ("sudo nft insert rule inet filter input tcp dport 9000 accept",)),
        (("iptables",), ("sudo iptables -I INPUT -p tcp --dport 9000 -j ACCEPT",)),
    ],
)
def test_the_firewall_that_is_here_is_told_how_to_let_others_in(
    tools: tuple[str, ...], commands: tuple[str, ...]
) -> None:
    found = open_here(9000, which=having(*tools).get, system="linux")
    assert found == ("# on this device, so that others reach TCP port 9000:", *commands)


def test_without_a_firewall_there_is_nothing_to_do() -> None:
    assert open_here(9000, which=having().get, system="linux") == ()


def test_macos_lets_a_program_in_and_windows_a_port() -> None:
    tool = "sudo /usr/libexec/ApplicationFirewall/socketfilterfw"
    assert open_here(9000, which=having("python3").get, system="darwin")[1:] == (
        f"{tool} --add /usr/bin/python3",
        f"{tool} --unblockapp /usr/bin/python3",
    )
    [_, command] = open_here(5353, "udp", which=having().get, system="win32")
    assert command.endswith("protocol=UDP localport=5353")


def test_for_another_device_every_firewall_is_named() -> None:
    text = "\n".join(open_there("pi.local", 9001))
    assert "on the device pi.local" in text
    for words in ("ufw allow 9001/tcp", "--add-port=9001/tcp", "--dport 9001", "localport=9001", "macOS"):
        assert words in text
