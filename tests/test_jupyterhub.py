"""A real JupyterHub: each user has a server with the routes, at a separate address."""

import requests

from tests.helpers.fake_comfydeploy import KEY


def test_a_signed_in_user_can_use_the_routes_of_his_own_server(jupyterhub):
    ada = jupyterhub.sign_in("ada")
    own = ada.get(f"{jupyterhub.user_url('ada')}comfyui-deploy/check-status", timeout=30)
    assert own.status_code == 200, own.text
    assert own.json()["comfyui"]["reachable"]
    other = ada.get(f"{jupyterhub.user_url('bob')}comfyui-deploy/check-status", timeout=30)
    assert other.status_code == 403
    assert other.json()["code"] == "unauthorized"


def test_a_token_of_the_hub_can_use_the_routes(jupyterhub):
    url = f"{jupyterhub.user_url('ada')}comfyui-deploy/check-status"
    for kind in ("token", "Bearer"):
        headers = {"Authorization": f"{kind} {jupyterhub.token('ada')}"}
        assert requests.get(url, headers=headers, timeout=30).status_code == 200
    foreign = {"Authorization": f"token {jupyterhub.token('bob')}"}
    for headers in ({}, foreign):
        answer = requests.get(url, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (403, "unauthorized")


def test_a_bearer_is_the_key_of_comfydeploy_unless_it_let_the_request_in(
    jupyterhub, comfydeploy_of_hub
):
    """It is with the cookies of the hub; a token of the hub is sent to no other server."""
    ada = jupyterhub.sign_in("ada")
    url = f"{jupyterhub.user_url('ada')}comfyui-deploy/workflows?target=cloud"
    answer = ada.get(url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert [seen.headers["Authorization"] for seen in comfydeploy_of_hub.seen] == [f"Bearer {KEY}"]
    for session in (ada, requests):
        headers = {"Authorization": f"Bearer {jupyterhub.token('ada')}"}
        answer = session.get(url, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (401, "no_api_key")
    assert len(comfydeploy_of_hub.seen) == 1
