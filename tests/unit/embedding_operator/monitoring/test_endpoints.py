"""The file of servers: its valid content, and that an error names the field of a bad one."""

import pytest
import yaml

from embedding_operator.monitoring import endpoints

SERVER = {"url": "https://prometheus:9090/"}


def test_empty_file_names_no_server(tmp_path):
    (tmp_path / "x").write_text("")
    assert endpoints.load(tmp_path / "x") == endpoints.Endpoints()


def test_servers_have_host_and_files(tmp_path):
    raw = {"prometheus": [{**SERVER, "caFile": "/ca", "bearerFile": "/token"}], "maxBodyMiB": 64}
    (tmp_path / "x").write_text(yaml.safe_dump(raw))
    read = endpoints.load(tmp_path / "x")
    (server,) = read.prometheus
    assert (server.url, server.host) == ("https://prometheus:9090", "prometheus:9090")
    assert (str(server.ca_file), str(server.bearer_file)) == ("/ca", "/token")
    assert read.body_bytes == 64 * 1024 * 1024
    assert read.alertmanager == ()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([], "monitoring"),
        ({"prometeus": []}, "monitoring"),
        ({"prometheus": {}}, "monitoring.prometheus"),
        ({"prometheus": [SERVER] * 9}, "at most 8"),
        ({"alertmanager": ["x"]}, "monitoring.alertmanager[0]"),
        ({"alertmanager": [{"url": 1}]}, "monitoring.alertmanager[0].url"),
        ({"alertmanager": [{**SERVER, "token": "x"}]}, "monitoring.alertmanager[0]"),
        ({"alertmanager": [{**SERVER, "bearerFile": 1}]}, "monitoring.alertmanager[0].bearerFile"),
        ({"prometheus": [{"url": "prometheus:9090"}]}, "https://"),
        ({"prometheus": [{"url": "https://"}]}, "https://"),
        ({"prometheus": [{"url": "https://a:99999"}]}, "https://"),
        ({"prometheus": [{"url": "https://[x"}]}, "https://"),
        ({"prometheus": [{"url": "https://a b"}]}, "https://"),
        ({"prometheus": [{"url": "https://user:pass@a"}]}, "no user, password"),
        ({"prometheus": [{"url": "https://a?token=x"}]}, "no user, password"),
        (
            {"prometheus": [{**SERVER, "bearerFile": "a", "basicAuthDirectory": "b"}]},
            "give one of them",
        ),
        ({"prometheus": [{"url": "http://a", "bearerFile": "/t"}]}, "allowInsecureHTTP"),
        ({"prometheus": [{"url": "http://a", "headersDirectory": "/t"}]}, "allowInsecureHTTP"),
        ({"maxBodyMiB": 0}, "maxBodyMiB"),
        ({"maxBodyMiB": 257}, "maxBodyMiB"),
        ({"maxBodyMiB": "8"}, "maxBodyMiB"),
    ],
)
def test_unusable_field_is_refused_by_name(raw, told):
    with pytest.raises(endpoints.InvalidEndpoints) as refused:
        endpoints.parse(raw)
    assert told in str(refused.value)
    assert "pass@" not in str(refused.value)


def test_http_needs_no_leave_without_credentials_and_leave_with_them():
    plain = {"url": "http://prometheus:9090"}
    endpoints.parse({"prometheus": [plain]})
    with_token = {**plain, "bearerFile": "/token", "allowInsecureHTTP": True}
    endpoints.parse({"prometheus": [with_token]})


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{"])
def test_file_that_cannot_be_read_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(endpoints.InvalidEndpoints, match=str(tmp_path / "x")):
        endpoints.load(tmp_path / "x")
