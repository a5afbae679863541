"""The clusters that the configuration of the server names."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import LocalCluster
from distributed.security import Security

from comfydeploy_jupyter.client.machines import fields_of
from comfydeploy_jupyter.dask_clusters import adapt, release
from comfydeploy_jupyter.errors import (
    ComfyUIUnavailableError,
    InvalidRequestError,
    NotFoundError,
)
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.machines.dask import DaskKind
from tests.helpers.clusters import make_certificates


def configured(**clusters):
    return DaskKind(ComfyDeploy(clusters=clusters))


def local_cluster():
    security = Security.temporary()
    return LocalCluster(n_workers=0, processes=False, security=security, dashboard_address=":0")


def test_an_address_and_its_certificates(tmp_path):
    files = make_certificates(tmp_path)
    far = configured(far={"scheduler": "tls://10.0.0.5:8786", **files}).target("far")
    assert far.address == "tls://10.0.0.5:8786"
    assert far.certificates.cert == (tmp_path / "tls_client_cert.pem").read_text()
    assert far.client_context() is not None
    assert "PRIVATE" not in repr(far)


def test_a_scheduler_without_tls_is_used_only_if_the_setting_allows_it():
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as it:
        address = it.scheduler_address
        clusters = {"address": address, "dict": {"scheduler": address}, "object": it}
        assert address.startswith("tcp://127.0.0.1:")
        for name in clusters:
            with pytest.raises(InvalidRequestError, match="cluster_allow_plain_tcp") as caught:
                configured(**clusters).target(name)
            assert "Security.temporary()" in str(caught.value)
            allowed = DaskKind(ComfyDeploy(clusters=clusters, cluster_allow_plain_tcp=True)).target(
                name
            )
            assert (allowed.address, allowed.certificates) == (address, None)


def test_a_callable_is_called_once_and_its_cluster_is_closed():
    made = []

    def make():
        made.append(local_cluster())
        return made[-1]

    found = configured(mine=make)
    found.check_name("mine")
    assert made == []
    targets = [found.target("mine") for _ in range(2)]
    assert [target.cluster for target in targets] == [made[0]] * 2
    asyncio.run(found.close())
    assert made[0].status.name == "closed"


def test_an_object_is_used_and_not_closed():
    with local_cluster() as cluster:
        found = configured(mine=cluster)
        assert found.target("mine").address == cluster.scheduler_address
        asyncio.run(found.close())
        assert cluster.status.name == "running"


class ClusterOnKubernetes:
    """`adapt` takes what that of ``dask_kubernetes.operator.KubeCluster`` takes."""

    numbers: tuple[int | None, int | None] | None = None

    def adapt(self, minimum=None, maximum=None):
        self.numbers = (minimum, maximum)


def test_a_cluster_on_kubernetes_starts_workers():
    cluster = ClusterOnKubernetes()
    adapt(cluster, "hpc", 0, 8)
    assert cluster.numbers == (0, 8)


def test_pools_of_one_cluster_share_its_workers():
    cluster = ClusterOnKubernetes()
    adapt(cluster, "a", 1, 2)
    adapt(cluster, "b", 0, 4)
    adapt(cluster, "a", 1, 3)
    assert cluster.numbers == (1, 7)
    release(cluster, "b")
    assert cluster.numbers == (1, 3)
    release(cluster, "a")
    assert cluster.numbers == (0, 3), "no worker is kept for a deleted pool"


def broken():
    raise RuntimeError("no queue")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("tcp://10.0.0.5:8786", InvalidRequestError, "tls://"),
        ("tcp://127.0.0.1:8786", InvalidRequestError, "tls://"),
        ({"address": "tls://10.0.0.5:8786"}, InvalidRequestError, "'scheduler'"),
        ({"scheduler": "tls://h:1", "tls_ca_file": "/nowhere"}, InvalidRequestError, "both needed"),
        ("tcp://127.0.0.1:99999", InvalidRequestError, "not the address"),
        ("tcp://127.0.0.1:0", InvalidRequestError, "not the address"),
        ("tls://[::1:8786", InvalidRequestError, "not the address"),
        ("tls://host:\u0663\u0663", InvalidRequestError, "not the address"),
        (object(), InvalidRequestError, "scheduler_address"),
        (broken, ComfyUIUnavailableError, "no queue"),
    ],
)
def test_wrong_settings_are_reported(value, error, text):
    with pytest.raises(error, match=text):
        configured(mine=value).target("mine")


@pytest.mark.parametrize(
    ("cluster", "text"),
    [
        (object(), "is it a Dask cluster"),
        (SimpleNamespace(scheduler_address="inproc://10.0.0.5/1/1", adapt=None), "processes=True"),
        (SimpleNamespace(scheduler_address="tcp://127.0.0.1:8786"), "address of its scheduler"),
    ],
)
def test_a_wrong_object_of_a_kernel_is_reported(cluster, text):
    with pytest.raises(InvalidRequestError, match=text):
        fields_of(cluster)


@pytest.mark.parametrize("line_break", [r"\n", ""])
def test_no_error_contains_a_key(tmp_path, line_break):
    """A key from an environment variable may have literal ``\\n`` in place of line breaks."""
    files = make_certificates(tmp_path)
    key = Path(files["tls_client_key"]).read_text().replace("\n", line_break)
    for text in (key, key.replace("-----BEGIN", "")):
        given = {**files, "tls_client_key": text}
        cluster = SimpleNamespace(
            scheduler_address="tls://10.0.0.5:8786", security=Security(**given), adapt=None
        )
        wrong = configured(far={"scheduler": "tls://10.0.0.5:8786", **given}, mine=cluster)
        calls = [partial(wrong.target, "far"), partial(wrong.target, "mine")]
        for call in [*calls, partial(fields_of, cluster)]:
            with pytest.raises(InvalidRequestError, match="key") as caught:
                call()
            assert key[40:80] not in str(caught.value.to_reply())


def test_a_file_that_is_missing_is_named_by_its_field(tmp_path):
    given = {**make_certificates(tmp_path), "tls_client_key": "/nowhere.pem"}
    with pytest.raises(InvalidRequestError, match="tls_client_key cannot be read: No such file"):
        configured(far={"scheduler": "tls://10.0.0.5:8786", **given}).target("far")


def test_a_name_that_is_unknown():
    with pytest.raises(NotFoundError, match="it has lab, mine") as caught:
        configured(mine="tls://h:1", lab="tls://h:2").check_name("other")
    assert caught.value.details["known"] == ["lab", "mine"]
