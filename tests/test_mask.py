"""Secrets are found in all the forms they come in, in texts and in streams that come in pieces; ordinary words stay."""

import base64
import html
import json
import re
import shlex
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.secrets.mask import HIDDEN, Mask, Veil
from bot.secrets.shapes import forms

SECRET = "p/ss'w\"rd+ü &%2f\\x<y>"
GO = {ord(sign): f"\\u{ord(sign):04x}" for sign in "&<>"}
PLAIN = "correct-horse-7"
KEY = """\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBa1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7AAAAJgr
AAAAC3NzaC1lZDI1NTE5AAAAIFrV
AQ==
-----END OPENSSH PRIVATE KEY-----"""


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("secret", [SECRET, PLAIN, "sixsix", "x" * 300, "line-one-of-it\nline-two-of-it"])
@pytest.mark.parametrize(
    "written",
    [
        str,
        b64,
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: quote(text, safe=""),
        quote,
        quote_plus,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(text).replace("/", "\\/"),
        repr,
        shlex.quote,
        lambda text: "'" + text.replace("'", "'\\''") + "'",
        html.escape,
        lambda text: json.dumps(text, ensure_ascii=False).translate(GO),
        lambda text: json.dumps(text).translate(GO | {ord("'"): "\\u0027"}),
        lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        lambda text: (
            html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;").replace("+", "&#43;")
        ),
        lambda text: html.escape(text).replace("&#x27;", "&apos;"),
        lambda text: html.escape(text).replace("&#x27;", "&#039;"),
        lambda text: re.sub("[&<>'\"]", lambda sign: f"&#{ord(sign[0])};", text),
        lambda text: text.replace("'", "''"),
        lambda text: text.replace('"', '""'),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: f"00{text.encode().hex()}0a",
    ],
)
def test_a_secret_is_found_in_every_form(secret: str, written: object) -> None:
    assert callable(written)
    text = f"before {written(secret)} after"
    masked = Mask([secret]).text(text)
    assert HIDDEN in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert not [form for form in forms(secret) if form in masked]


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:", "a longer name:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
def test_a_secret_is_found_inside_of_what_was_encoded_with_it(before: str, after: str) -> None:
    text = b64(before + PLAIN + after)
    masked = Mask([PLAIN]).text(text)
    assert len(masked.replace(HIDDEN, "")) <= len(b64(before)) + len(b64(after)) + 4
    assert b64(PLAIN)[4:-4] not in masked


def test_a_key_is_found_by_its_lines_wherever_they_stand() -> None:
    mask = Mask([KEY])
    for number, line in enumerate(KEY.splitlines()[1:-1]):
        assert (HIDDEN in mask.text(f"key: {line} <-")) == (number < 3), line
    assert mask.text("-----BEGIN CERTIFICATE-----") == "-----BEGIN CERTIFICATE-----"
    kubernetes = f'{{"data":{{"key":"{b64(KEY)}"}}}}'
    assert mask.text(kubernetes).count(HIDDEN) == 1


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(
    "secret", [KEY, "x7/" * 50, "".join(map(str, range(40))), "".join(f"{n}~ÿ" for n in range(60))]
)
@pytest.mark.parametrize(
    ("tool", "width"),
    [("base64", 76), ("openssl base64", 64), ("xxd -p", 60), ("xxd -p -u", 60)],
)
def test_what_tools_write_over_several_lines_is_found_line_by_line(
    tool: str, width: int, secret: str, end: str
) -> None:
    raw = (secret + end).encode()
    written = raw.hex().upper() if "-u" in tool else raw.hex()
    whole = base64.b64encode(raw).decode() if "base64" in tool else written
    lines = [whole[at : at + width] for at in range(0, len(whole), width)]
    assert len(lines) > 1
    left = Mask([secret]).text("\n".join(lines)).splitlines()
    assert len(left) == len(lines)
    assert left[:-1] == [HIDDEN] * (len(lines) - 1)
    assert left[-1] == HIDDEN or len(left[-1].replace(HIDDEN, "")) < 6, "five letters tell nothing"


@pytest.mark.parametrize("text", ["-" * 1_000_000, "--a" * 100_000, "a --" + "-key" * 100_000])
def test_rules_of_dashes_of_any_length_are_looked_through(text: str) -> None:
    assert Mask().text(text) == text
    veil = Veil(Mask())
    assert veil.add(text.encode()) + veil.rest() == text.encode()


def test_secrets_that_overlap_are_hidden_whole() -> None:
    mask = Mask(["abcdefgh", "efghijkl", "cdefgh-and-more"])
    assert mask.text("<abcdefghijkl>") == f"<{HIDDEN}>"
    assert mask.text("<abcdefgh-and-more>") == f"<{HIDDEN}>"
    assert mask.known("<abcdefghijkl>") == f"<{HIDDEN}>"


def test_a_new_value_is_learnt_and_the_old_one_is_not_forgotten() -> None:
    mask = Mask(["the-old-value"])
    veil = Veil(mask)
    mask.learn(["the-new-value"])
    assert mask.text("the-old-value the-new-value") == f"{HIDDEN} {HIDDEN}"
    assert veil.add(b"the-new-value.") == f"{HIDDEN}.".encode()


def test_what_is_shorter_than_six_characters_would_blank_out_words_and_is_left() -> None:
    assert Mask(["vllm", ""]).text("vllm runs") == "vllm runs"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("hf_abcdefgh1234", HIDDEN),
        ("xoxb-123-abc456 xapp-1-A2B3C4", f"{HIDDEN} {HIDDEN}"),
        ("AKIAIOSFODNN7EXAMPLE", HIDDEN),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", f"aws_secret_access_key = {HIDDEN}"),
        ("Authorization: Bearer eyJhbGciOi.J9", f"Authorization: Bearer {HIDDEN}"),
        ("authorization: basic dXNlcjpwdzEy", f"authorization: basic {HIDDEN}"),
        ("postgresql://bot:hunter2@db/x", f"postgresql://bot:{HIDDEN}@db/x"),
        ('{"password": "hunter22"}', f'{{"password": "{HIDDEN}"}}'),
        ("vllm serve m --api-key hunter22 --port 80", f"vllm serve m --api-key {HIDDEN} --port 80"),
        ("PGPASSWORD=hunter22 psql", f"PGPASSWORD={HIDDEN} psql"),
        (KEY, HIDDEN),
        ("ghp_" + "a1" * 12, HIDDEN),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc and no end", HIDDEN),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, masked: str) -> None:
    assert Mask().text(text) == masked
    assert Mask().text(masked) == masked, "once more changes nothing"
    veil = Veil(Mask())
    assert veil.add(text.encode()) + veil.rest() == masked.encode()


@pytest.mark.parametrize(
    "text",
    [
        'vllm:generation_tokens_total{engine="0"} 123456.0',
        "token: 123456",
        "tokens/s: 41.52, prompt_tokens=1234567",
        "basic authentication is on",
        "vllm serve --tokenizer-mode auto --max-num-batched-tokens 8192 --key --token 123456",
        "the disk-by-id-nvme-eui.0025385b11b0 is full",
        'mysql --password="$DB_PASSWORD" -h db',
        "curl -H 'token: {{ secrets.hf }}'",
        "PASSWORD=${sickbay_1}",
        "http://127.0.0.1:8300/alerts/alertmanager and ssh://ops@10.0.0.1:22",
        "GPU-5a1b2c3d-0000-1111-2222-333344445555",
        "KeyError: 'keys'",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_operators_need_to_read_stays(text: str) -> None:
    assert Mask([PLAIN]).text(text) == text
    veil = Veil(Mask([PLAIN]))
    assert veil.add(text.encode()) + veil.rest() == text.encode()


def streamed(veil: Veil, data: bytes, sizes: list[int]) -> bytes:
    """Give a stream in pieces of these sizes, again and again."""
    out, at, turn = b"", 0, 0
    while at < len(data):
        out += veil.add(data[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return out + veil.rest()


WORDS = st.lists(st.sampled_from(["aabaab", "aabaac", "ab", "a", "b", "c", " ", "\n"]), max_size=30).map(
    "".join
)


@given(text=WORDS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@example(text="aabaaaabaab", sizes=[1])
@example(text="aabaabaabaac", sizes=[4, 3])
def test_in_whatever_pieces_a_stream_comes_it_says_what_the_whole_would(text: str, sizes: list[int]) -> None:
    mask = Mask(["aabaab", "baabaacb"])
    out = streamed(Veil(mask), text.encode(), sizes).decode()
    whole = mask.text(text)
    assert "aabaab" not in out
    assert "baabaacb" not in out
    torn = text.endswith(("baabaa", "baabaac"))
    assert out == whole or torn, "only the beginning of a secret at the very end is hidden more"


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_shape_is_found_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    text = f'a "token": "hunter22", Bearer eyJhbGciOi.J9\n{KEY}\nhttp://u:secret9@h hf_abcdefgh1234 end'
    out = streamed(Veil(Mask()), text.encode(), sizes).decode()
    assert not re.search("hunter|eyJh|b3Bl|QyNT|AAAA|secret9|abcdef|1234", out)
    assert out.startswith('a "token": "•••", Bearer •••\n')
    assert out.endswith(" end")


@given(parts=st.lists(st.binary(max_size=60) | st.just(PLAIN.encode()), max_size=12))
def test_bytes_that_hold_no_secret_come_through_as_they_are(parts: list[bytes]) -> None:
    mask = Mask([PLAIN])
    veil = Veil(mask)
    data = b"".join(parts)
    out = b"".join(veil.add(part) for part in parts) + veil.rest()
    assert PLAIN.encode() not in out
    if not mask.bytes.spans(data) and not out.endswith(HIDDEN.encode()):
        assert out == data


def test_no_more_is_held_back_than_the_longest_secret() -> None:
    mask = Mask([PLAIN])
    veil = Veil(mask)
    assert veil.add(b"working ... 41 %") == b"working ... 41 %"
    assert veil.add(b" correct-ho") == b" "
    assert veil.peek() == HIDDEN.encode(), "as it would be if nothing more came"
    assert veil.add(b"tel") == b"correct-hotel"
    assert veil.add(b"x" * 1_000_000) == b"x" * 1_000_000


def test_a_shape_without_end_is_not_held_back_for_ever() -> None:
    veil = Veil(Mask())
    out = veil.add(b"password=" + b"x" * 1000)
    assert out == b"password="
    out += veil.add(b"x" * 100_000)
    assert len(out + veil.add(b"y" * 100_000)) >= 100_000 - 16 * 1024
    key = Veil(Mask())
    assert key.add(b"-----BEGIN RSA PRIVATE KEY-----\nabc\n") == b""
    assert b"abc" not in key.add(b"z\n" * 10_000) + key.rest()


def test_half_a_secret_at_a_cut_is_hidden_on_both_sides() -> None:
    veil = Veil(Mask([PLAIN]))
    before = veil.add(b"its value is correct-hor") + veil.gap()
    after = veil.add(b"horse-7, and then ") + veil.rest()
    assert before == b"its value is " + HIDDEN.encode()
    assert after == HIDDEN.encode() + b", and then "
    ended = Veil(Mask([PLAIN]))
    assert ended.add(b"correct-h") + ended.rest() == HIDDEN.encode(), "the link was cut there"
    few = Veil(Mask([PLAIN]))
    assert few.add(b"correct") + few.rest() == HIDDEN.encode()
    assert few.add(b"corr") + few.rest() == b"corr", "five letters of it tell nothing"


def test_everything_in_plain_data_and_nouns_is_masked_and_numbers_stay() -> None:
    mask = Mask([PLAIN])
    data = {PLAIN: [PLAIN, 7, None, True, (PLAIN,)], "x": {"y": f"<{PLAIN}>"}}
    assert mask.over(data) == {HIDDEN: [HIDDEN, 7, None, True, (HIDDEN,)], "x": {"y": f"<{HIDDEN}>"}}
    guessed = {"a": "password=hunter22"}
    assert mask.over_known(guessed) == guessed, "what is run is not guessed about"
    assert mask.over(guessed) == {"a": f"password={HIDDEN}"}
    assert mask.knows(json.dumps(data))
    assert not mask.knows(json.dumps(guessed))
