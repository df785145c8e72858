from __future__ import annotations

import socket
import threading
from pathlib import Path

from p2pfl.doctor.port import check_port
from tests.support.federation import make_federation
from tests.support.meshes import lab


async def test_a_port_that_this_device_s_node_has_is_fine(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    async with lab(tmp_path) as opened:
        running = await opened.start(ant)
        finding, is_running = await check_port("127.0.0.1", running.mesh.port, ant)
    assert (finding.level, is_running) == ("ok", True)
    assert "is running and answers" in finding.text


async def test_a_port_that_another_node_has_is_not_fine(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    async with lab(tmp_path) as opened:
        running = await opened.start(federation["bee"])
        finding, is_running = await check_port("127.0.0.1", running.mesh.port, federation["ant"])
    assert (finding.level, is_running) == ("FAIL", False)
    assert "--listen" in finding.text


async def test_a_port_that_a_silent_program_has_is_not_fine_either(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        hang_up = threading.Thread(target=lambda: server.accept()[0].close())
        hang_up.start()
        finding, is_running = await check_port("127.0.0.1", server.getsockname()[1], ant)
        hang_up.join()
    assert (finding.level, is_running) == ("FAIL", False)
