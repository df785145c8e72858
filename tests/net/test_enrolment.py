"""Devices that join over real TLS, and everybody who should not: each is refused with a sentence of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pfl.enrolment.channel import ENROL_ALPN, make_identity
from p2pfl.enrolment.frames import (
    VERSION,
    Declined,
    JoinGrant,
    PakeAnswer,
    PakeOffer,
    Proof,
    Wait,
    decode_grant,
    encode_body,
)
from p2pfl.enrolment.inviter import Applicant, EnrolmentLimits
from p2pfl.enrolment.joiner import JoinerSettings
from p2pfl.enrolment.pake import Pake, PakeMessage
from p2pfl.errors import CredentialsError, NetworkError, ReplyLostError
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.known_peers import KnownPeer, read_known_peers
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.tls import anonymous_client_context
from p2pfl.wire.frames import FrameDecoder, encode_frame
from tests.support.enrolling import (
    FAST,
    Device,
    connected,
    inviting,
    new_wish,
    proved,
    request_of,
)


@pytest.fixture
def ant(tmp_path: Path) -> Device:
    return Device(tmp_path / "joiner", "ant")


async def test_a_device_gets_a_certificate_for_a_key_that_never_left_it(tmp_path: Path, ant: Device) -> None:
    peer = KnownPeer("a" * 52, "desk", ("192.0.2.7:9000",), 1.0)
    async with inviting(tmp_path / "ca", members=(peer,)) as open_:
        joined = await ant.join(open_.address, open_.code)
        assert await open_.inviter.until_end() == "full"
    own = load_credentials(ant.directory)
    assert (own.name, own.role, own.federation) == (joined.name, joined.role, joined.federation)
    assert (own.name, own.role, own.federation) == ("ant", "node", "lab")
    assert list(read_known_peers(ant.directory / "ant").values()) == [peer]
    assert own.key_path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "ca" / "ant").iterdir()) == ["ca.crt", "node.crt"]
    assert ant.said == []


async def test_each_device_of_a_class_has_a_seat_and_a_name_of_its_own(tmp_path: Path) -> None:
    devices = [Device(tmp_path / f"joiner-{number}", "pi") for number in range(3)]
    async with inviting(tmp_path / "ca", count=3) as open_:
        joined = await asyncio.gather(*(device.join(open_.address, open_.code) for device in devices))
        assert await open_.inviter.until_end() == "full"
    assert sorted(one.name for one in joined) == ["pi", "pi-2", "pi-3"]
    assert {load_credentials(device.directory).name for device in devices} == {"pi", "pi-2", "pi-3"}


async def test_a_person_confirms_each_device_by_its_name(tmp_path: Path, ant: Device) -> None:
    asked: list[Applicant] = []

    async def confirm(applicant: Applicant) -> bool:
        asked.append(applicant)
        return applicant.name != "eve"

    eve = Device(tmp_path / "eve", "eve")
    async with inviting(tmp_path / "ca", count=2, confirm=confirm) as open_:
        assert "The person at 127.0.0.1" in await eve.refused(open_.address, open_.code)
        await ant.join(open_.address, open_.code)
        assert open_.signed() == ["ant"]
        assert len(open_.invitation.seats) == 1
    assert [(one.name, one.host) for one in asked] == [("eve", "127.0.0.1"), ("ant", "127.0.0.1")]
    assert asked[1].node == load_credentials(ant.directory).node_id
    assert "Waiting until this device is let in" in ant.said[0]
    assert eve.files() == []


# Who must not join.


async def test_a_code_that_is_wrong_by_one_word_is_refused_and_leaves_no_file(
    tmp_path: Path, ant: Device
) -> None:
    async with inviting(tmp_path / "ca") as open_:
        said = await ant.refused(open_.address, open_.wrong_code)
        assert "did not accept the code: it is wrong" in said
        assert "after 4 more wrong codes the invitation ends" in said
        assert open_.signed() == []
        assert open_.invitation.seats == ()
    assert ant.files() == []
    assert not ant.directory.exists()


async def test_the_fifth_wrong_code_ends_the_invitation_also_for_the_right_one(
    tmp_path: Path, ant: Device
) -> None:
    async with inviting(tmp_path / "ca") as open_:
        for left in (4, 3, 2, 1):
            assert f"after {left} more" in await ant.refused(open_.address, open_.wrong_code)
        assert "ended after five wrong codes" in await ant.refused(open_.address, open_.wrong_code)
        assert await open_.inviter.until_end() == "tries"
        assert "ended after five wrong codes" in await ant.refused(open_.address, open_.code)
        assert open_.signed() == []


async def test_wrong_codes_at_the_same_time_are_five_tries_as_well(tmp_path: Path) -> None:
    devices = [Device(tmp_path / f"joiner-{number}") for number in range(7)]
    async with inviting(tmp_path / "ca") as open_:
        said = await asyncio.gather(*(one.refused(open_.address, open_.wrong_code) for one in devices))
        assert sum("did not accept" in one for one in said) == 4
        assert sum("five wrong codes" in one for one in said) == 3
        assert open_.invitation.wrong == 5


async def test_an_expired_code_is_refused(tmp_path: Path, ant: Device) -> None:
    now = [time.time()]
    async with inviting(tmp_path / "ca", ttl=60.0, clock=lambda: now[0]) as open_:
        now[0] += 61.0
        assert "has expired" in await ant.refused(open_.address, open_.code)
        assert await open_.inviter.until_end() == "expired"
        assert open_.signed() == []


async def test_a_code_that_expires_while_a_person_thinks_is_refused(tmp_path: Path, ant: Device) -> None:
    now = [time.time()]

    async def slow(_: Applicant) -> bool:
        now[0] += 61.0
        return True

    async with inviting(tmp_path / "ca", ttl=60.0, confirm=slow, clock=lambda: now[0]) as open_:
        assert "has expired" in await ant.refused(open_.address, open_.code)
        assert open_.signed() == []
        assert open_.invitation.seats == ()


async def test_a_code_is_of_no_use_beyond_its_seats(tmp_path: Path, ant: Device) -> None:
    second = Device(tmp_path / "second", "bee")
    async with inviting(tmp_path / "ca") as open_:
        await ant.join(open_.address, open_.code)
        assert "All seats" in await second.refused(open_.address, open_.code)
        assert open_.signed() == ["ant"]
    assert second.files() == []


async def test_after_the_end_nobody_answers_and_the_joiner_is_told_why_that_may_be(
    tmp_path: Path, ant: Device
) -> None:
    async with inviting(tmp_path / "ca") as open_:
        address, code = open_.address, open_.code
    with pytest.raises(
        NetworkError, match=r"nothing listens there\. If there was one, it has ended"
    ) as refused:
        await ant.join(address, code)
    assert not isinstance(refused.value, ReplyLostError)


class Recorder:
    """A relay of bytes that keeps what a joiner sends: what somebody in the network can record."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self.sent = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(self._target.host, self._target.port)

        async def copy() -> None:
            while data := await reader.read(65536):
                self.sent += data
                inner_writer.write(data)

        forward = asyncio.create_task(copy())
        while data := await inner_reader.read(65536):
            writer.write(data)
        forward.cancel()
        writer.close()
        inner_writer.close()


@contextlib.asynccontextmanager
async def serve(handle: object, context: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)  # type: ignore[arg-type]
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def test_a_recorded_exchange_replayed_is_refused(tmp_path: Path, ant: Device) -> None:
    async with inviting(tmp_path / "ca", count=2) as open_:
        recorder = Recorder(open_.address)
        async with serve(recorder.handle) as address:
            await ant.join(address, open_.code)  # a relay that only forwards bytes does no harm
        reader, writer = await asyncio.open_connection(open_.address.host, open_.address.port)
        writer.write(recorder.sent)
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        writer.close()
        assert open_.signed() == ["ant"]
        assert len(open_.invitation.seats) == 1


async def test_frames_replayed_on_another_connection_are_a_wrong_code(tmp_path: Path) -> None:
    """Somebody who could read one exchange in the clear could still not use its frames again."""
    async with inviting(tmp_path / "ca", count=2) as open_:
        async with connected(open_.address) as channel:
            pake = Pake("joiner", open_.code)
            offer = PakeOffer(VERSION, pake.message.nonce, pake.message.element)
            await channel.send(offer)
            answer = await channel.receive()
            assert isinstance(answer, PakeAnswer)
            keys = pake.finish(PakeMessage(answer.nonce, answer.element), channel.binding())
            proof = Proof(keys.proof("joiner"))
            await channel.send(proof)
            assert isinstance(await channel.receive(), Proof)
        async with connected(open_.address) as channel:
            await channel.send(offer)
            await channel.receive()
            await channel.send(proof)
            assert await channel.receive() == Declined("code", left=4)
        assert open_.signed() == []


class Relay:
    """A device in the middle that ends TLS on both sides, and passes on what it decrypts."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self.identity = make_identity()
        self.seen: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        context = anonymous_client_context(ENROL_ALPN)
        inner_reader, inner_writer = await asyncio.open_connection(
            self._target.host, self._target.port, ssl=context, server_hostname=""
        )

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            decoder = FrameDecoder(2**20)
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    self.seen += decoder.feed(data)
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def test_a_man_in_the_middle_who_relays_gets_nothing_and_nothing_is_signed(
    tmp_path: Path, ant: Device
) -> None:
    async with inviting(tmp_path / "ca") as open_:
        relay = Relay(open_.address)
        async with serve(relay.handle, relay.identity.context) as address:
            said = await ant.refused(address, open_.code)
        assert "another device stands between the two" in said
        assert "another device stood between the two" in await open_.told.until("was not let in")
        assert open_.signed() == []
        assert open_.invitation.wrong == 1
        assert any(b"pake-offer" in body for body in relay.seen), "it has read along"
        assert not any(b"join-request" in body for body in relay.seen)
    assert ant.files() == []


class FalseInviter:
    """A device that answers at the address, and does not know the code."""

    def __init__(self, code: str, *, confirms: bool = False) -> None:
        self._code = code
        self._confirms = confirms
        self.identity = make_identity()
        self.got: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder(2**20)
        pake = Pake("inviter", self._code)
        frames: list[object] = [
            {"type": "pake-answer", "nonce": pake.message.nonce, "element": pake.message.element}
        ]
        frames.append({"type": "proof", "proof": bytes(32)} if self._confirms else {"type": "wait"})
        while (data := await reader.read(65536)) and frames:
            for body in decoder.feed(data):
                self.got.append(body)
                writer.write(encode_frame(msgspec.msgpack.encode(frames.pop(0)), 2**20))
        writer.close()


@pytest.mark.parametrize("confirms", [True, False])
async def test_a_false_inviter_gets_neither_key_nor_request(ant: Device, confirms: bool) -> None:
    false = FalseInviter("zebra-zebra-zebra", confirms=confirms)
    async with serve(false.handle, false.identity.context) as address:
        said = await ant.refused(address, "lemon-tiger-voyage")
    assert ("does not know this code" in said) if confirms else ("No invitation answers" in said)
    assert [b"pake-offer" in false.got[0], b"proof" in false.got[1], len(false.got)] == [True, True, 2]
    assert ant.files() == []


async def test_a_port_that_is_no_inviters_is_named(ant: Device) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    async with serve(greet) as address:
        with pytest.raises(NetworkError, match=r"No invitation answers at .* Compare the address"):
            await ant.join(address, "lemon-tiger-voyage")


async def test_another_version_is_named(tmp_path: Path, ant: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.enrolment.joiner.VERSION", 2)
    async with inviting(tmp_path / "ca") as open_:
        for _ in range(3):
            assert "another version of p2pfl" in await ant.refused(open_.address, open_.code)
        (told,) = open_.told  # not again and again: strangers can cause it at will
        assert "it speaks version 2 of invitations, and this one 1" in told


async def test_a_disk_that_refuses_is_told_and_lets_nobody_in(
    tmp_path: Path, ant: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inviting(tmp_path / "ca") as open_:

        def refuse(path: Path, *_: object, **__: object) -> None:
            raise CredentialsError(f"{path.name} cannot be written: the disk is full.")

        monkeypatch.setattr("p2pfl.enrolment.invitation.write_file", refuse)
        assert "could not let this device in: its screen says why" in await ant.refused(
            open_.address, open_.code
        )
        assert "invitation.json cannot be written: the disk is full" in await open_.told.until("not let in")
        assert open_.signed() == []


# What goes wrong without anybody's bad intent.


@pytest.mark.parametrize(("days", "refused"), [(-2, True), (-0.9, False), (2, False), (366, True)])
async def test_a_clock_by_which_the_certificate_would_not_be_valid_is_named(
    tmp_path: Path, ant: Device, days: float, refused: bool
) -> None:
    def clock() -> float:
        return time.time() + days * 86400

    async with inviting(tmp_path / "ca") as open_:
        if refused:
            said = await ant.refused(open_.address, open_.code, clock=clock)
            assert "This device's clock is wrong, or the inviter's: it is " in said
            assert open_.signed() == []
        else:
            joined = await ant.join(open_.address, open_.code, clock=clock)
            assert joined.skew == pytest.approx(days * 86400, abs=60)


async def test_a_lost_answer_is_fetched_again_with_the_same_request(tmp_path: Path, ant: Device) -> None:
    async with inviting(tmp_path / "ca") as open_:
        async with connected(open_.address) as channel:
            wish = new_wish()
            keys = await proved(channel, open_.code)
            await channel.send(request_of(keys, wish))
            first = await channel.receive()
            assert isinstance(first, JoinGrant)
        # The connection broke before it was stored. The seat is taken; only this key gets the answer.
        assert "All seats" in await ant.refused(open_.address, open_.code)
        async with connected(open_.address) as channel:
            keys = await proved(channel, open_.code)
            await channel.send(request_of(keys, wish))
            second = await channel.receive()
            assert isinstance(second, JoinGrant)
        assert open_.signed() == ["ant"]
        assert _certificate(first) == _certificate(second)
        assert not open_.invitation.is_done


async def test_an_answer_lost_with_the_inviter_is_fetched_from_the_next_one(tmp_path: Path) -> None:
    wish = new_wish()
    async with inviting(tmp_path / "ca") as open_:
        code = open_.code
        async with connected(open_.address) as channel:
            await channel.send(request_of(await proved(channel, code), wish))
            first = await channel.receive()
            assert isinstance(first, JoinGrant)
    async with inviting(tmp_path / "ca") as again:
        assert again.code == code
        async with connected(again.address) as channel:
            await channel.send(request_of(await proved(channel, code), wish))
            second = await channel.receive()
            assert isinstance(second, JoinGrant)
    assert _certificate(first) == _certificate(second)


def _certificate(grant: JoinGrant) -> bytes:
    return decode_grant(grant.body).certificate


async def test_a_joiner_whose_answer_is_lost_asks_again_by_itself(tmp_path: Path, ant: Device) -> None:
    class Cutting(Recorder):
        """Cuts the first connection when the answer comes: behind it lies the third write of the inviter."""

        connections = 0

        async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            if self.connections > 1:
                await super().handle(reader, writer)
                return
            inner_reader, inner_writer = await asyncio.open_connection(self._target.host, self._target.port)

            async def copy() -> None:
                while data := await reader.read(65536):
                    inner_writer.write(data)

            forward = asyncio.create_task(copy())
            while data := await inner_reader.read(65536):
                if len(data) > 1000 and self.connections == 1 and open_.invitation.seats:
                    break
                writer.write(data)
            forward.cancel()
            writer.transport.abort()
            inner_writer.transport.abort()

    async with inviting(tmp_path / "ca") as open_:
        async with serve(Cutting(open_.address).handle) as address:
            await ant.join(address, open_.code, JoinerSettings(tries=3))
        assert await open_.inviter.until_end() == "full"
    assert "was lost" in ant.said[0]
    assert load_credentials(ant.directory).name == "ant"


async def never(_: Applicant) -> bool:
    """Be a person who does not answer."""
    await asyncio.Event().wait()
    return True


async def test_a_device_that_waits_is_told_that_the_invitation_was_stopped(
    tmp_path: Path, ant: Device
) -> None:
    async with inviting(tmp_path / "ca", confirm=never) as open_:
        joining = asyncio.create_task(ant.refused(open_.address, open_.code))
        await ant.said.until()
    assert "was stopped there before this device was let in" in await joining
    assert ant.files() == []


async def test_a_device_that_goes_while_a_person_thinks_takes_no_seat(tmp_path: Path, ant: Device) -> None:
    asked = asyncio.Event()

    async def confirm(applicant: Applicant) -> bool:
        asked.set()
        return applicant.name == "ant" or await never(applicant)

    async with inviting(tmp_path / "ca", confirm=confirm) as open_:
        async with connected(open_.address) as channel:
            keys = await proved(channel, open_.code)
            await channel.send(request_of(keys, new_wish("bee")))
            await asked.wait()
        await open_.told.until("bee (")
        await ant.join(open_.address, open_.code)
        assert open_.signed() == ["ant"]


async def test_a_device_that_waits_hears_from_the_inviter_again_and_again(tmp_path: Path) -> None:
    limits = EnrolmentLimits(wait_seconds=0.01, exchange_seconds=0.0)
    async with (
        inviting(tmp_path / "ca", confirm=never, limits=limits) as open_,
        connected(open_.address) as channel,
    ):
        await channel.send(request_of(await proved(channel, open_.code), new_wish()))
        assert [await channel.receive() for _ in range(5)] == [Wait()] * 5


async def test_a_lost_answer_keeps_the_key_for_the_next_command(tmp_path: Path, ant: Device) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the exchange on, and break the connection when the seat is taken."""
        inner_reader, inner_writer = await asyncio.open_connection(open_.address.host, open_.address.port)

        async def copy() -> None:
            while data := await reader.read(65536):
                inner_writer.write(data)

        forward = asyncio.create_task(copy())
        while (data := await inner_reader.read(65536)) and not open_.invitation.seats:
            writer.write(data)
        forward.cancel()
        writer.transport.abort()
        inner_writer.transport.abort()

    async with inviting(tmp_path / "ca") as open_, serve(cut) as address:
        with pytest.raises(ReplyLostError):
            await ant.join(address, open_.code)
    assert ant.files() == [".ant.joining", "node.key"]
    before = (ant.directory / ".ant.joining" / "node.key").read_bytes()
    async with inviting(tmp_path / "ca") as again:
        await ant.join(again.address, again.code)
    assert (ant.directory / "ant" / "node.key").read_bytes() == before


# Strangers at the port.


async def test_silent_and_slow_connections_are_closed_and_keep_nobody_out(
    tmp_path: Path, ant: Device
) -> None:
    limits = EnrolmentLimits(
        first_byte_seconds=60.0,
        proof_seconds=60.0,
        max_pending=6,
        max_pending_per_address=3,
        exchange_seconds=0.0,
    )
    async with inviting(tmp_path / "ca", limits=limits) as open_:
        opened = []
        for number in range(30):
            host = f"127.0.0.{2 + number % 5}"
            opened.append(
                await asyncio.open_connection(open_.address.host, open_.address.port, local_addr=(host, 0))
            )
            opened[-1][1].write(b"\x16\x03" if number % 2 else b"")
        await ant.join(open_.address, open_.code)
        for _, writer in opened:
            writer.transport.abort()


async def test_a_connection_that_trickles_is_closed_in_time(tmp_path: Path) -> None:
    limits = EnrolmentLimits(first_byte_seconds=0.05, proof_seconds=0.2)
    async with inviting(tmp_path / "ca", limits=limits) as open_:
        reader, writer = await asyncio.open_connection(open_.address.host, open_.address.port)
        assert await reader.read() == b""
        writer.close()
        async with connected(open_.address) as channel:
            with contextlib.suppress(OSError):
                assert await channel.receive() is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3), framed=st.booleans())
def test_rubbish_ends_its_own_connection_only(tmp_path: Path, data: list[bytes], framed: bool) -> None:
    async def send() -> None:
        async with inviting(tmp_path / "ca", ttl=1000.0, limits=FAST) as open_:
            before = open_.invitation
            async with connected(open_.address) as channel:
                for one in data:
                    await channel._stream.write(encode_frame(one, 1000) if framed else one + bytes(8))
                with contextlib.suppress(OSError):
                    frame = await channel.receive()
                    assert frame in (None, Declined("protocol"))
            assert open_.invitation == before
            async with connected(open_.address) as channel:
                await proved(channel, open_.code)

    asyncio.run(send())


@pytest.mark.parametrize("frame", [Proof(bytes(32)), Wait()])
async def test_frames_out_of_their_turn_are_refused(tmp_path: Path, frame: Proof | Wait) -> None:
    async with inviting(tmp_path / "ca") as open_, connected(open_.address) as channel:
        await channel.send(frame)
        assert await channel.receive() == Declined("protocol")
        assert open_.invitation.wrong == 0


@pytest.mark.parametrize("fault", ["mac", "request", "name", "signature"])
async def test_a_request_that_is_not_authentic_or_not_signed_by_its_key_is_refused(
    tmp_path: Path, fault: str
) -> None:
    async with inviting(tmp_path / "ca") as open_, connected(open_.address) as channel:
        keys = await proved(channel, open_.code)
        wish = new_wish()
        if fault == "request":
            wish = type(wish)(b"nothing", "ant", wish.clock)
        if fault == "signature":
            wish = type(wish)(wish.request[:-1] + bytes([wish.request[-1] ^ 1]), "ant", wish.clock)
        request = request_of(keys, wish)
        if fault == "mac":
            request = type(request)(request.body, bytes(32))
        if fault == "name":
            request = type(request)(
                encode_body(Proof(bytes(32))), keys.mac("joiner", encode_body(Proof(bytes(32))))
            )
        await channel.send(request)
        assert await channel.receive() == Declined("protocol")
        assert open_.signed() == []
        assert open_.invitation.seats == ()


async def test_a_name_that_is_none_is_made_valid(tmp_path: Path) -> None:
    async with inviting(tmp_path / "ca") as open_, connected(open_.address) as channel:
        keys = await proved(channel, open_.code)
        await channel.send(request_of(keys, new_wish("../Ada's Mac")))
        assert isinstance(await channel.receive(), JoinGrant)
        assert open_.signed() == ["ada-s-mac"]


async def test_the_port_speaks_tls_1_3_only_and_gives_no_session_to_resume(tmp_path: Path) -> None:
    async with inviting(tmp_path / "ca") as open_:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(open_.address.host, open_.address.port, ssl=old)
        new = anonymous_client_context(ENROL_ALPN)
        reader, writer = await asyncio.open_connection(
            open_.address.host, open_.address.port, ssl=new, server_hostname=""
        )
        connection = writer.get_extra_info("ssl_object")
        assert connection.version() == "TLSv1.3"
        writer.write(b"\x00\x00\x00\x00")  # a frame of no bytes: the inviter answers and closes
        with contextlib.suppress(OSError):
            await reader.read()
        assert connection.session is None or not connection.session.has_ticket
        writer.close()
