"""Which names and values count as secrets."""

import pytest

from comfydeploy_jupyter.util.secrets import (
    clean_arguments,
    clean_url,
    holds_secret,
    is_secret_file,
    is_secret_name,
)

SECRET_NAMES = (
    *("HF_TOKEN", "--api-key", "CIVITAI_API_KEY", "apiKey", "--tls-keyfile", "DB_PASSWORD"),
    "MYTOKEN",
)
OTHER_NAMES = (
    *("--use-split-cross-attention", "--lowvram", "--keyboard", "MONKEY"),
    "TOKENIZERS_PARALLELISM",
)
SECRET_FILES = (
    *(".env", ".env.local", "server.key", "hf_token.txt", "id_rsa", "credentials.json", "API_KEY"),
)
OTHER_FILES = (
    *("tokenizer.json", "added_tokens.json", "ca.pem", "keyframes.py", "environment.yml"),
)


def test_names_of_variables_arguments_and_files():
    assert [*filter(is_secret_name, (*SECRET_NAMES, *OTHER_NAMES))] == [*SECRET_NAMES]
    assert [*filter(is_secret_file, (*SECRET_FILES, *OTHER_FILES))] == [*SECRET_FILES]


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://ada:pw@github.com/x/y.git", "https://github.com/x/y.git"),
        ("https://ghp_abc@github.com:8443/x", "https://github.com:8443/x"),
        ("ssh://git@host.org/x", "ssh://git@host.org/x"),
        ("https://x.org/a?token=1&v=2", "https://x.org/a?v=2"),
        ("https://x.org/a?X-Amz-Signature=1", "https://x.org/a"),
        ("https://x.org/a?b=%20c&d", "https://x.org/a?b=%20c&d"),
        ("https://u:p@[::1]:80/x", "https://[::1]:80/x"),
        ("https://u:p@[bad/x", ""),
        ("/just/a/path", "/just/a/path"),
    ],
)
def test_addresses(url, clean):
    assert clean_url(url) == clean


def test_arguments():
    given = ["--api-key", "k", "--cpu", "--token=t", "--proxy", "http://u:p@h:1/", "--x=ws://u@h/"]
    given += ["--note", "hf_" + "a" * 34, "plain"]
    kept = ["--cpu", "--proxy", "http://h:1/", "--x=ws://h/", "--note", "plain"]
    assert clean_arguments(given) == kept


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (b"key = 'sk-proj-" + b"a" * 40 + b"'", True),
        (b"hf_" + b"a" * 34, True),
        (b"-----BEGIN RSA PRIVATE KEY-----", True),
        (b"-----BEGIN CERTIFICATE-----", False),
        (b".sk-folding-cube-animation-with-a-very-long-name {}", False),
    ],
)
def test_contents(text, secret):
    assert holds_secret(text) is secret
