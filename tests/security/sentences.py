"""The tests of each sentence of docs/security.md; `test_document` checks that none is missing."""

from __future__ import annotations

_AUTH, _FILES, _BOMBS = "security/test_auth.py", "security/test_files.py", "security/test_bombs.py"
_SERVICES, _SECRETS = "security/test_hostile_services.py", "security/test_secrets_stay.py"
_MACHINE, _GATE = "security/test_machine_token.py", "tunnel/test_gate.py"
_WIRE, _ACCESS = "tunnel/test_gate_wire.py", "tunnel/test_access.py"
_HUB = "browser/test_hub_pages.py"
_PAGE, _PANEL = "handlers/test_comfyui_page.py", "widgets/test_tunnel_panel.py"

_OTHERS, _DISCOVERY = "security/test_other_users.py", "comfyui/test_discovery.py"
_REPOSITORIES = "snapshots/test_repositories.py"
_LEASES, _CONFIGURED = "clusters/test_leases.py", "clusters/test_configured.py"

# The begin of a sentence or of a row of a table -> its tests, without "test_".
HELD: dict[str, tuple[str, ...]] = {
    # -- clusters
    "Schedulers on other machines": (f"{_CONFIGURED}::what_is_wrong_is_told",),
    "A request can name a cluster": (f"{_CONFIGURED}::a_name_that_is_unknown",),
    "ComfyUIs on workers listen": (f"{_LEASES}::the_proxy_admits_only_clients_of_the_cluster",),
    "The certificates of a pool": ("clusters/test_pools.py::bad_input",),
    # -- permissions
    "In short": (
        f"{_AUTH}::strangers_are_turned_away",
        f"{_AUTH}::the_list_above_has_every_route",
    ),
    "For every route, Jupyter first": (f"{_AUTH}::strangers_are_turned_away", f"{_AUTH}::sockets"),
    "Nothing is done before": (
        f"{_AUTH}::strangers_are_turned_away",
        f"{_AUTH}::no_other_method_gets_further",
        f"{_AUTH}::sockets",
    ),
    "Then Jupyter's authorizer": (f"{_AUTH}::authorizer_is_asked_once_with_our_resource",),
    "| `read`": (f"{_AUTH}::authorizer_is_asked_once_with_our_resource",),
    "| `write`": (f"{_AUTH}::authorizer_is_asked_once_with_our_resource",),
    "| `execute`": (f"{_AUTH}::authorizer_is_asked_once_with_our_resource", f"{_AUTH}::sockets"),
    "Pages of other web sites": (
        f"{_AUTH}::xsrf_token_beside_a_cookie",
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::other_names_of_this_server_are_refused",
        f"{_AUTH}::refusals_say_what_is_wrong",
    ),
    "Requests from an unknown origin": (
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::other_names_of_this_server_are_refused",
    ),
    "WebSockets and the sign-in": (
        f"{_AUTH}::sockets",
        f"{_AUTH}::a_sign_in_is_asked_for_as_a_post_is",
        f"{_PAGE}::the_socket_is_for_users_and_for_our_own_pages",
    ),
    "Browsers also report": (
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::only_its_pages_are_let_in",
    ),
    "A link on another site": (
        f"{_AUTH}::links_from_other_sites_show_but_do_nothing",
        f"{_AUTH}::a_sign_in_is_asked_for_as_a_post_is",
    ),
    "The same holds for pages": (
        f"{_PAGE}::a_page_of_the_same_origin_needs_the_token",
        f"{_HUB}::another_users_page_gets_nowhere",
        f"{_HUB}::the_own_page_works",
    ),
    "ComfyDeploy needs no Jupyter token": (
        f"{_MACHINE}::the_service_is_let_in",
        f"{_MACHINE}::wrong_tokens",
        f"{_MACHINE}::nobody_is_let_in_without_one_configured",
    ),
    "With this token it can call": (f"{_MACHINE}::no_other_route_takes_it",),
    # -- files and addresses that the routes can reach
    "**Files.**": (
        f"{_FILES}::every_field_that_takes_a_path_is_tried",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "ComfyUI's `models`": ("comfyui/test_folders.py::names_within_the_roots",),
    "Links are resolved": (
        "comfyui/test_folders.py::a_link_swapped_in_after_the_check_leads_nowhere",
        "comfyui/test_folders.py::swapping_all_the_time_never_escapes",
    ),
    "A path outside": (
        "comfyui/test_folders.py::what_is_missing_outside_is_refused_as_what_is_there",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "Devices, pipes and sockets": (
        "comfyui/test_folders.py::a_pipe_in_the_place_of_a_file_does_not_hang",
    ),
    "Uploads and models are": (
        "files/test_uploads.py::the_same_content_is_reused_and_other_content_gets_a_free_name",
        "files/test_uploads.py::many_at_once_never_overwrite_each_other",
        "files/test_uploads.py::overwrite",
        "transfers/test_downloads.py::other_file_of_that_name_stays",
    ),
    "`GET view` serves": (
        "handlers/test_view.py::nothing_else_can_be_read",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "**What the browser shows.**": (
        f"{_FILES}::no_output_acts_as_a_page_of_jupyter",
        f"{_FILES}::a_name_stays_in_its_header",
        f"{_SERVICES}::a_remote_file_has_the_type_of_its_name_alone",
        f"{_SERVICES}::odd_headers_stay_one_line_and_break_nothing",
    ),
    "Pages of ComfyDeploy": (
        "handlers/test_site.py::the_answer_cannot_act_in_jupyters_name",
        f"{_SERVICES}::nobody_speaks_for_the_origin_of_jupyter",
    ),
    "Everything that ComfyUI serves": (
        f"{_PAGE}::a_file_cannot_act_as_a_page",
        f"{_PAGE}::a_file_without_a_type_is_mere_bytes",
        f"{_PAGE}::files_of_users_are_no_pages_and_no_scripts",
        f"{_PAGE}::nothing_is_a_service_worker",
        "browser/test_comfyui_page.py::no_file_of_comfyui_acts_in_a_browser",
    ),
    "ComfyUI's own page is the exception": (
        f"{_PAGE}::the_page_and_its_parts",
        f"{_SERVICES}::nobody_speaks_for_the_origin_of_jupyter",
    ),
    "HTML pages of custom nodes": (f"{_PAGE}::a_file_cannot_act_as_a_page",),
    "Turn the page off": (f"{_PAGE}::there_is_no_page",),
    "Texts of workflows": (
        "security/test_hostile_names.py::what_notebooks_show_is_escaped",
        "security/test_hostile_names.py::a_terminal_gets_nothing_to_obey",
        "widgets/test_base.py::parts_escape_what_they_show_and_have_names",
        "widgets/test_run_panel.py::a_failure_is_shown_escaped",
        f"{_PANEL}::a_failure_is_told_in_words_and_escaped",
    ),
    "Scripts, notebooks and Dockerfiles": (
        "graphs/test_python_script.py::whatever_the_texts_are_they_stay_texts",
        "snapshots/test_route.py::odd_names_cannot_become_commands",
        "security/test_hostile_names.py::a_requirement_is_no_option_of_pip",
    ),
    "**What proxies forward.**": (
        f"{_PAGE}::credentials_stay_here",
        f"{_PAGE}::only_what_is_known_is_passed_on",
        f"{_PAGE}::only_what_is_known_is_passed_back",
        "handlers/test_site.py::nothing_of_jupyter_goes_out",
    ),
    "A redirect of ComfyUI": (f"{_PAGE}::where_redirects_lead",),
    "Links in a workflow file": (
        "transfers/test_public.py::connection_is_judged_by_its_address",
        "transfers/test_public.py::name_is_looked_up_when_the_connection_is_made",
        "handlers/test_fetch_models.py::redirect_from_a_mirror_into_the_machine_is_refused",
    ),
    "`offline = True` forbids": (
        "net/test_fetch_policy.py::installer_fetches_nothing",
        "transfers/test_public.py::offline_ends_what_was_under_way",
    ),
    "Redirects are followed": (
        f"{_SERVICES}::no_redirect_is_followed",
        f"{_SERVICES}::the_token_stays_with_its_site",
        f"{_SERVICES}::it_leads_to_the_web_alone",
    ),
    "**How much.**": (
        f"{_BOMBS}::a_body_has_a_bound",
        "files/test_uploads.py::too_large_for_the_disk_is_told_at_once",
    ),
    "Answers of ComfyUI": (
        f"{_SERVICES}::answers_are_read_up_to_a_bound",
        f"{_SERVICES}::an_endless_answer_ends",
    ),
    "An input file may have": (
        f"{_BOMBS}::what_says_too_much_is_not_opened",
        f"{_BOMBS}::no_more_is_unpacked_than_was_counted",
    ),
    "At most 64 MiB of a file": (
        f"{_BOMBS}::metadata_with_sizes_that_lie",
        f"{_BOMBS}::thumbnails_are_of_pictures_of_bounded_size",
        "graphs/test_image_metadata.py::a_compression_bomb_is_not_unpacked",
    ),
    "JSON that is nested": (
        f"{_BOMBS}::deep_json",
        f"{_BOMBS}::json_in_a_text_of_json",
        f"{_SERVICES}::nonsense_is_told_as_such",
    ),
    "A workflow may grow": (
        "graphs/test_expansion.py::a_small_file_that_becomes_large_is_refused",
        "graphs/test_expansion.py::time_grows_with_the_file",
    ),
    "No regular expression": (
        "test_patterns.py::time_grows_with_the_text",
        "test_patterns.py::patterns_that_are_slow_are_noticed",
    ),
    "**What needs only": (
        f"{_AUTH}::authorizer_is_asked_once_with_our_resource",
        "openapi/test_document.py::the_same_document_has_the_same_tag",
    ),
    # -- places of keys
    "| Jupyter's token": (
        f"{_PAGE}::credentials_stay_here",
        f"{_SERVICES}::each_service_gets_its_own_credentials_alone",
    ),
    "| ComfyDeploy key": (
        f"{_SECRETS}::nothing_tells_a_secret",
        "cloud/test_client.py::allow_list",
    ),
    "| `api_key`": (
        "cloud/test_client.py::order_of_the_keys",
        "transfers/test_callbacks.py::configured_key_only_where_it_may_go",
    ),
    "| key of a Comfy account": (
        "runs/test_partner_keys.py::which_key_a_run_has",
        "runs/test_partner_keys.py::keys_are_nowhere_but_in_comfyui",
        "runs/test_partner_keys.py::a_kept_key_is_there_after_a_restart_and_readable_by_its_owner_only",
    ),
    "| sign-in of a Comfy account": (
        "runs/test_comfy_sign_in.py::runs_have_the_token_until_the_user_signs_out",
        "runs/test_comfy_sign_in.py::passwords_and_tokens_are_nowhere",
    ),
    "| `huggingface_token`": (
        "transfers/test_downloads.py::hugging_face",
        f"{_SERVICES}::each_service_gets_its_own_credentials_alone",
    ),
    "| `machine_token`": (f"{_MACHINE}::wrong_tokens",),
    "| what a ComfyUI behind a reverse proxy asks for": (
        "machines/test_guarded.py::nothing_tells_what_opens_the_door",
        f"{_GATE}::no_way_shows_the_credentials_of_the_service",
    ),
    "| secret of a tunnel": (
        f"{_GATE}::the_secret_is_in_no_file_argument_or_environment",
        f"{_SECRETS}::nothing_tells_a_secret",
    ),
    "| token of a named tunnel": ("handlers/test_tunnel.py::named_tunnel",),
    "The machine strip": (f"{_PANEL}::the_notebook_keeps_no_secret",),
    "ComfyUI and other programs": (
        f"{_SECRETS}::children_get_no_keys_of_jupyter_and_comfydeploy",
        f"{_SECRETS}::values_that_hold_secrets_are_known",
        f"{_SECRETS}::nothing_tells_a_secret",
    ),
    "Interpreters that list": (
        f"{_SECRETS}::programs_that_are_asked_get_nothing_but_what_they_need",
    ),
    "In the launch arguments": (
        f"{_SECRETS}::arguments_are_shown_without_secrets_and_taken_back",
        "machines/test_routes.py::secrets_are_masked_and_come_back",
    ),
    "A key in a request": (f"{_SECRETS}::nothing_tells_a_secret",),
    "During a transfer": (
        "transfers/test_uploads.py::tokens_leave_the_store_when_a_transfer_ends",
        f"{_SECRETS}::nothing_tells_a_secret",
    ),
    "Replies, logs, metrics": (
        f"{_SECRETS}::nothing_tells_a_secret",
        f"{_SERVICES}::the_reason_of_a_failure_has_no_address",
        "cloud/test_client.py::the_key_is_nowhere_to_be_seen",
    ),
    "[A snapshot for Docker]": ("snapshots/test_route.py::secrets_are_left_out",),
    "A Jupyter server that `connect()`": (
        "client/test_discovery.py::where_none_exists_one_is_started_and_ends_with_us",
    ),
    # -- access to each address
    "| a user who may only `read`": (f"{_AUTH}::authorizer_is_asked_once_with_our_resource",),
    "| another user of the same JupyterHub": (
        f"{_AUTH}::strangers_are_turned_away",
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
    ),
    "| another user of this machine": (
        f"{_OTHERS}::a_stranger_is_no_comfyui_and_hears_nothing",
        f"{_OTHERS}::the_port_of_ours_is_not_taken_over",
    ),
    "| the author of a workflow": (
        "security/test_hostile_names.py::what_notebooks_show_is_escaped",
        f"{_BOMBS}::metadata_with_sizes_that_lie",
    ),
    "| the author of a custom node": (
        f"{_REPOSITORIES}::nothing_that_a_repository_configures_is_run",
        f"{_REPOSITORIES}::nor_where_that_is_hidden",
    ),
    "They cannot pretend": (f"{_OTHERS}::a_stranger_is_no_comfyui_and_hears_nothing",),
    "Before the first byte": (
        f"{_OTHERS}::a_stranger_is_no_comfyui_and_hears_nothing",
        f"{_OTHERS}::nor_by_ipv6",
        f"{_OTHERS}::nor_by_another_address_of_this_machine",
        f"{_OTHERS}::the_websocket_is_not_opened_either",
        f"{_OTHERS}::one_who_is_slow_to_accept_is_known_as_well",
        f"{_OTHERS}::a_stranger_whose_place_ours_takes_keeps_nothing",
    ),
    "It must be the ComfyUI that the extension": (f"{_OTHERS}::who_is_named_is_trusted",),
    "Every other process": (
        f"{_OTHERS}::at_the_usual_port_a_stranger_is_passed_over",
        f"{_OTHERS}::the_port_of_ours_is_not_taken_over",
        f"{_OTHERS}::a_start_whose_port_is_taken_is_no_start",
        f"{_OTHERS}::nor_behind_the_gate_of_a_tunnel",
    ),
    "ComfyUI's folders come from": (
        f"{_OTHERS}::folders_are_not_taken_from_what_http_says",
        "comfyui/test_running.py::by_its_path_and_by_its_name",
    ),
    "If the owner cannot": (
        f"{_OTHERS}::what_cannot_be_known_is_refused",
        f"{_OTHERS}::who_is_named_is_trusted",
    ),
    "A ComfyUI in one of the usual places": (
        f"{_DISCOVERY}::a_tree_that_others_can_change_is_used_only_if_it_is_named",
        f"{_DISCOVERY}::an_interpreter_that_others_can_change_is_not_found",
    ),
    "A folder that you name": (
        f"{_DISCOVERY}::a_tree_that_others_can_change_is_used_only_if_it_is_named",
    ),
    "**Files that are replaced": (
        "runs/test_input_files.py::a_folder_that_is_swapped_all_the_time_gives_nothing_from_outside",
        "runs/test_input_files.py::a_link_in_the_place_of_the_copy_is_not_written_through",
        "runs/test_input_files.py::nor_one_in_the_place_of_the_folder",
        "runs/test_input_files.py::permissions_stay",
        "comfyui/test_folders.py::swapping_all_the_time_never_escapes",
        "snapshots/test_copying.py::what_is_swapped_meanwhile_is_not_copied",
    ),
    "**Repositories.**": (
        f"{_REPOSITORIES}::nothing_that_a_repository_configures_is_run",
        f"{_REPOSITORIES}::nor_where_that_is_hidden",
    ),
    # -- exposure by a tunnel
    "Nothing is exposed until": ("handlers/test_tunnel.py::start_status_stop",),
    "A user who may only `read`": ("handlers/test_tunnel.py::who_may_only_read_gets_no_link",),
    "It ends with Jupyter": (
        f"{_ACCESS}::nothing_outlives_a_killed_jupyter",
        f"{_ACCESS}::nothing_outlives_a_stopped_jupyter",
    ),
    "| to ComfyUI (default)": (
        f"{_ACCESS}::comfyui_through_the_gate",
        f"{_GATE}::nobody_gets_in_without_the_secret",
        f"{_WIRE}::without_the_secret_nothing_gets_through",
        f"{_WIRE}::no_request_hides_in_another",
    ),
    "| to ComfyUI, `protect=False`": (f"{_ACCESS}::bare_comfyui_when_the_user_says_so",),
    "| to Jupyter": (
        f"{_ACCESS}::jupyter_through_its_tunnel",
        f"{_ACCESS}::a_jupyter_that_asks_nobody_gets_a_gate",
    ),
    "The gate is a separate process": (f"{_GATE}::killed_gate_comes_back_at_its_address",),
    "A browser that opens": (
        f"{_GATE}::a_browser_brings_the_secret_once",
        f"{_WIRE}::the_way_without_the_secret_stays_on_the_host",
    ),
    "Bearer": (f"{_GATE}::programs",),
    "ComfyUI receives neither": (
        f"{_WIRE}::headers_that_open_the_gate_stay_at_it",
        f"{_GATE}::programs",
        f"{_GATE}::the_service_gets_the_credentials_that_it_asks_for",
        f"{_GATE}::no_way_shows_the_credentials_of_the_service",
    ),
    "It does not receive the data by which Cloudflare Access": (
        f"{_WIRE}::headers_that_open_the_gate_stay_at_it",
    ),
    "After ten wrong secrets": (
        f"{_GATE}::guessing_is_bounded_for_each_address",
        f"{_GATE}::no_invented_address_gives_new_attempts",
        f"{_GATE}::guesses_in_his_name_lock_out_nobody_who_has_the_secret",
    ),
    "Other web sites cannot use a": (
        f"{_GATE}::other_sites_may_not_use_the_cookie",
        f"{_WIRE}::other_sites_may_link_and_nothing_else",
    ),
    "A connection with an incomplete request": (
        f"{_WIRE}::half_heads_are_bounded_in_number_and_in_time",
    ),
    "The gate's log contains": (
        f"{_WIRE}::the_log_is_bounded_and_has_no_secret",
        f"{_WIRE}::whatever_is_sent_the_gate_stands",
        f"{_WIRE}::odd_bytes_are_no_fault_of_the_gate",
    ),
    "cloudflared is downloaded": ("tunnel/test_binary.py::configured_then_path_then_cache",),
    "The download is compared": ("tunnel/test_binary.py::nothing_is_kept_of_a_bad_download",),
    # -- checks
    "`make check` runs": (
        "test_audit.py::findings_fail",
        "test_audit.py::without_a_service_it_says_that_nothing_was_audited",
    ),
    "`tests/fuzz` gives": (
        "fuzz/test_parsers.py::pictures_videos_and_sounds",
        "fuzz/test_parsers.py::archives_of_pictures",
    ),
}

# Advice, consequences of other sentences, and facts about other programs.
ADVICE = (
    "**Clusters.** Whoever reaches",
    "| action |",
    "Jupyter's default authorizer",
    "On a shared server",
    "All users of one Jupyter",
    "Users who must not",
    "This protection needs",
    "Such a page can still",
    "Only a domain for each user",
    "**Running a workflow",
    "A user who may `write` can therefore do",
    "The limits below",
    "**The network.**",
    "So a user who may `write` can make",
    "Jupyter's own `/metrics`",
    "| key |",
    "The panels keep",
    "If a page can reach",
    "The inputs of a run",
    "ComfyUI stores workflows",
    "Keep this in mind",
    "Programs' arguments can",
    "This table lists",
    "| who |",
    "| a user who may `write` |",
    "| a visitor with the link",
    "| the author of a model file",
    "| root, and everybody",
    "**Other users of this machine**",
    "ComfyUI has neither users",
    "We cannot prevent",
    "If you do not trust",
    "| tunnel |",
    "Everybody who has",
    "Cloudflare, which",
    "Keep Jupyter's token",
    "Install custom nodes",
    "Prefer the protected",
    "Update:",
    "ComfyUI, cloudflared, and",
)
