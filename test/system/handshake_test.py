"""The handshake phase, option by option; spec: "Newstyle negotiation", "Option types"."""

import struct

import pytest

from support import images, nbd_client
from support.nbd_client import (
    CMD_READ,
    FIXED_NEWSTYLE,
    FLAG_CAN_MULTI_CONN,
    FLAG_HAS_FLAGS,
    FLAG_READ_ONLY,
    FLAG_SEND_DF,
    FLAG_SEND_FLUSH,
    FLAG_SEND_FUA,
    INFO_BLOCK_SIZE,
    INFO_DESCRIPTION,
    INFO_EXPORT,
    INFO_NAME,
    NO_ZEROES,
    OPT_ABORT,
    OPT_EXPORT_NAME,
    OPT_EXTENDED_HEADERS,
    OPT_GO,
    OPT_INFO,
    OPT_LIST,
    OPT_STARTTLS,
    OPT_STRUCTURED_REPLY,
    REP_ACK,
    REP_ERR_EXT_HEADER_REQD,
    REP_ERR_INVALID,
    REP_ERR_UNKNOWN,
    REP_ERR_UNSUP,
    REP_INFO,
    REP_SERVER,
    Client,
    go_payload,
    option_message,
    request_message,
    text,
)


@pytest.fixture
def server(serve, image):
    return serve(f"disk={image}")


@pytest.fixture
def client(server):
    """Greeted, in option haggling."""
    with Client(server.connect()) as connected:
        yield connected.greet()


def information(replies):
    """Information type -> its payload."""
    return {
        struct.unpack(">H", reply.payload[:2])[0]: reply.payload[2:]
        for reply in replies
        if reply.type == REP_INFO
    }


def assert_in_sync(client):
    """The next option is understood."""
    *servers, final = client.option(OPT_LIST)
    assert final.type == REP_ACK and len(servers) == 1


def test_the_greeting_offers_fixed_newstyle_without_zeroes(server):
    with Client(server.connect()) as client:
        client.greet(None)
        assert client.handshake_flags == FIXED_NEWSTYLE | NO_ZEROES


@pytest.mark.parametrize("flags", [4, 0x80000000, 0xFFFFFFFC, FIXED_NEWSTYLE | NO_ZEROES | 1 << 16])
def test_an_unknown_client_flag_drops_the_connection(server, flags):
    with Client(server.connect()) as client:
        client.greet(flags)
        assert client.is_closed()


@pytest.mark.parametrize(
    "flags, padding",
    [(FIXED_NEWSTYLE, 124), (0, 124), (FIXED_NEWSTYLE | NO_ZEROES, 0), (NO_ZEROES, 0)],
)
def test_export_name_is_padded_unless_no_zeroes_was_negotiated(server, image, flags, padding):
    with Client(server.connect()) as client:
        client.greet(flags)
        client.send(option_message(OPT_EXPORT_NAME, b"disk"))
        size, transmission_flags = client.unpack(">QH")
        assert size == image.stat().st_size and transmission_flags & FLAG_HAS_FLAGS
        assert client.receive(padding) == bytes(padding)
        assert client.read(512, 512) == image.read_bytes()[512:1024]


def test_export_name_of_an_unknown_export_disconnects(client):
    client.send(option_message(OPT_EXPORT_NAME, b"missing"))
    assert client.is_closed()


def test_go_is_never_padded(server, image):
    with Client(server.connect()) as client:
        client.greet(FIXED_NEWSTYLE).go("disk")
        assert client.read(0, 512) == image.read_bytes()[:512]


def test_the_empty_name_is_the_first_export(server, image):
    for option in (OPT_GO, OPT_EXPORT_NAME):
        with Client(server.connect()) as client:
            client.greet()
            if option == OPT_GO:
                client.go("")
            else:
                client.send(option_message(OPT_EXPORT_NAME))
                client.unpack(">QH")
            assert client.read(0, 512) == image.read_bytes()[:512]


def test_the_transmission_flags_are_those_of_the_export(serve, image):
    server = serve("--read-only", f"disk={image}")
    with server.client("disk") as client:
        assert client.transmission_flags & FLAG_READ_ONLY
        assert not client.transmission_flags & FLAG_SEND_DF
    with server.client("disk", structured=True) as client:
        assert client.transmission_flags & FLAG_SEND_DF


def test_a_writable_export_offers_what_clients_want(client):
    client.go("disk")
    wanted = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_FUA | FLAG_CAN_MULTI_CONN
    assert client.transmission_flags & wanted == wanted
    assert not client.transmission_flags & FLAG_READ_ONLY


def test_list_names_every_export(serve, tmp_path):
    names = ["first", "zweite Platte", "диск", "x" * 4096]
    for number in range(len(names)):
        images.make_image(tmp_path / f"{number}.img", 512)
    server = serve(*(f"{name}={tmp_path / f'{number}.img'}" for number, name in enumerate(names)))
    with Client(server.connect()) as client:
        *servers, final = client.greet().option(OPT_LIST)
        assert final.type == REP_ACK
        assert all(reply.type == REP_SERVER for reply in servers)
        assert [reply.payload for reply in servers] == [text(name) for name in names]
        for name in names:
            assert client.option_type(OPT_INFO, go_payload(name)) == REP_ACK


def test_info_and_then_go_say_the_same(client):
    payload = go_payload("disk", [INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE])
    info = client.option(OPT_INFO, payload)
    go = client.option(OPT_GO, payload)
    assert information(info) == information(go) and INFO_EXPORT in information(info)


def test_info_answers_what_was_asked_and_ignores_the_unknown(client, image):
    replies = client.option(OPT_INFO, go_payload("", [999, INFO_NAME, INFO_BLOCK_SIZE, 0xFFFF]))
    found = information(replies)
    assert replies[-1].type == REP_ACK
    assert struct.unpack(">Q", found[INFO_EXPORT][:8])[0] == image.stat().st_size
    assert found[INFO_NAME] == b"disk"
    least, preferred, most = struct.unpack(">III", found[INFO_BLOCK_SIZE])
    assert least & (least - 1) == 0 and preferred & (preferred - 1) == 0
    assert least <= preferred <= most and preferred >= 512 and most >= 32 << 20
    assert not found.keys() & {999, 0xFFFF}


def test_the_description_is_told_when_asked_for(tmp_path, image, serve):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\ndescription = "für alle"\n')
    with Client(serve("--config", config).connect()) as client:
        client.greet()
        assert (
            information(client.option(OPT_INFO, go_payload("", [INFO_DESCRIPTION])))[
                INFO_DESCRIPTION
            ]
            == "für alle".encode()
        )


def test_an_unknown_export_is_err_unknown_and_the_next_option_works(client):
    for option in (OPT_INFO, OPT_GO):
        assert client.option_type(option, go_payload("missing")) == REP_ERR_UNKNOWN
    assert_in_sync(client)
    client.go("disk")


def test_an_error_that_echoes_a_name_stays_within_4096_bytes(client):
    (reply,) = client.option(OPT_GO, go_payload("x" * 4096))
    assert reply.type == REP_ERR_UNKNOWN and len(reply.payload) <= 4096
    (reply,) = client.option(OPT_GO, go_payload("x" * 5000))
    assert reply.type & 0x80000000 and len(reply.payload) <= 4096
    assert_in_sync(client)


MALFORMED = {
    "nothing": b"",
    "half a length": b"\0\0",
    "a name longer than the data": struct.pack(">I", 100) + b"disk" + b"\0\0",
    "a name of 4 GiB": b"\xff\xff\xff\xff" + b"disk" + b"\0\0",
    "no count": text("disk"),
    "half a count": text("disk") + b"\0",
    "too few information requests": text("disk") + b"\0\2\0\0",
    "too many information requests": text("disk") + b"\0\0\0\0",
    "a byte left over": go_payload("disk") + b"\0",
    "a NUL in the name": go_payload("di\0sk"),
}


@pytest.mark.parametrize("option", [OPT_INFO, OPT_GO])
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_go_or_info_is_err_invalid_and_in_sync(client, option, case):
    assert client.option_type(option, MALFORMED[case]) == REP_ERR_INVALID
    assert_in_sync(client)
    client.go("disk")


@pytest.mark.parametrize(
    "option", [OPT_LIST, OPT_STRUCTURED_REPLY, OPT_STARTTLS, OPT_EXTENDED_HEADERS]
)
@pytest.mark.parametrize("length", [1, 4, 4097, 100000])
def test_options_without_data_refuse_data_and_stay_in_sync(client, option, length):
    expected = (REP_ERR_INVALID, REP_ERR_UNSUP) if option == OPT_STARTTLS else (REP_ERR_INVALID,)
    assert client.option_type(option, bytes(length)) in expected
    assert_in_sync(client)


@pytest.mark.parametrize("option", [4, 12, 99, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 1, 5000, 1 << 20])
def test_an_unknown_option_of_any_length_is_err_unsup(client, option, length):
    assert client.option_type(option, bytes(length)) == REP_ERR_UNSUP
    assert_in_sync(client)


def test_starttls_is_err_unsup_without_tls(client):
    assert client.option_type(OPT_STARTTLS) == REP_ERR_UNSUP
    client.go("disk")


def resident_bytes(server):
    with open(f"/proc/{server.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("option", [OPT_GO, OPT_LIST, 77])
def test_an_option_of_4_gib_is_never_allocated_for(server, option):
    before = resident_bytes(server)
    with Client(server.connect()) as client:
        client.greet()
        client.send(option_message(option, b"", 0xFFFFFFFF))
        try:
            for _ in range(64):
                client.send(bytes(1 << 20))
        except OSError:
            pass  # the server has had enough of it, which is fine
        assert resident_bytes(server) < before + (32 << 20)
    with server.client("disk") as client:
        assert client.size


@pytest.mark.parametrize("payload", [b"", b"goodbye", bytes(100000)], ids=len)
def test_abort_is_acknowledged_and_then_closed(client, payload):
    assert client.option_type(OPT_ABORT, payload) == REP_ACK
    assert client.is_closed()


def test_abort_is_acknowledged_whatever_else_came_with_it(client):
    client.send(option_message(OPT_ABORT) + option_message(OPT_LIST) + bytes(10000))
    assert client.option_reply().type == REP_ACK
    assert client.is_closed()


def test_a_wrong_option_magic_closes_the_connection(client):
    client.send(b"\0" * 16)
    assert client.is_closed()


def test_extended_headers_exclude_structured_replies_afterwards(client):
    assert client.option_type(OPT_EXTENDED_HEADERS) == REP_ACK
    assert client.option_type(OPT_STRUCTURED_REPLY) == REP_ERR_EXT_HEADER_REQD
    assert_in_sync(client)


def test_structured_replies_may_be_followed_by_extended_headers(client):
    assert client.option_type(OPT_STRUCTURED_REPLY) == REP_ACK
    assert client.option_type(OPT_EXTENDED_HEADERS) == REP_ACK
    client.extended = client.structured = True
    client.go("disk")
    assert client.read(0, 512)


def whole_conversation(image):
    """All a client sends from its flags to a READ and DISC, and the length of all replies."""
    sent = struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)
    sent += (
        option_message(99, b"what?")
        + option_message(OPT_LIST)
        + option_message(OPT_GO, go_payload("disk"))
    )
    sent += request_message(CMD_READ, 4096, 512, cookie=7) + request_message(nbd_client.CMD_DISC)
    return sent, struct.pack(">IIQ", 0x67446698, 0, 7) + image.read_bytes()[4096:4608]


def assert_answered(client, last_bytes):
    client.greet(None)
    assert client.option_reply().type == REP_ERR_UNSUP
    assert [reply.type for reply in client.option_replies()] == [REP_SERVER, REP_ACK]
    client.take_go(client.option_replies())
    assert client.receive(len(last_bytes)) == last_bytes
    assert client.is_closed()


def test_a_client_that_sends_a_byte_at_a_time_is_served(server, image):
    sent, last_bytes = whole_conversation(image)
    with Client(server.connect()) as client:
        for position in range(len(sent)):
            client.send(sent[position : position + 1])
        assert_answered(client, last_bytes)


def test_options_go_and_read_in_one_segment_are_served(server, image):
    sent, last_bytes = whole_conversation(image)
    with Client(server.connect()) as client:
        client.send(sent)
        assert_answered(client, last_bytes)


@pytest.mark.parametrize("listen", ["unix", "tcp"])
def test_every_split_of_the_conversation_into_two_segments_is_served(serve, image, listen):
    server = serve(f"disk={image}", listen=listen)
    sent, last_bytes = whole_conversation(image)
    for position in range(1, len(sent), 3):
        with Client(server.connect()) as client:
            client.send(sent[:position])
            client.send(sent[position:])
            assert_answered(client, last_bytes)
