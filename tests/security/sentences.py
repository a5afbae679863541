"""The tests of each sentence of docs/security.md; `test_document` checks that none is missing."""

from __future__ import annotations

_AUTH, _FILES, _BOMBS = "security/test_auth.py", "security/test_files.py", "security/test_bombs.py"
_SERVICES, _SECRETS = "security/test_hostile_services.py", "security/test_secrets_stay.py"
_MACHINE, _GATE = "security/test_machine_token.py", "tunnel/test_gate.py"
_WIRE, _ACCESS = "tunnel/test_gate_wire.py", "tunnel/test_access.py"
_HUB = "browser/test_hub_pages.py"
_PAGE, _PANEL = "handlers/test_comfyui_page.py", "widgets/test_tunnel_panel.py"

_OTHERS, _DISCOVERY = "security/test_other_users.py", "comfyui/test_find.py"
_REPOSITORIES = "snapshots/test_repositories.py"
_LEASES, _CONFIGURED = "clusters/test_leases.py", "clusters/test_configured.py"

# The begin of a sentence or of a row of a table -> its tests, without "test_".
HELD: dict[str, tuple[str, ...]] = {
    # -- clusters
    "So schedulers need TLS": (
        f"{_CONFIGURED}::a_scheduler_without_tls_is_used_only_if_the_setting_allows_it",
        "clusters/test_pools.py::a_pool_without_tls_pauses_unless_the_setting_allows_it",
    ),
    "A request can name a cluster": (f"{_CONFIGURED}::a_name_that_is_unknown",),
    "ComfyUIs on workers listen": (f"{_LEASES}::the_proxy_admits_only_clients_of_the_cluster",),
    "The certificates of a pool": ("clusters/test_pools.py::bad_input",),
    # -- permissions
    "In short": (
        f"{_AUTH}::requests_without_credentials_are_refused",
        f"{_AUTH}::the_list_above_has_every_route",
    ),
    "For every route, Jupyter first": (
        f"{_AUTH}::requests_without_credentials_are_refused",
        f"{_AUTH}::sockets",
    ),
    "Nothing is done before": (
        f"{_AUTH}::requests_without_credentials_are_refused",
        f"{_AUTH}::other_methods_are_refused",
        f"{_AUTH}::sockets",
    ),
    "Then Jupyter's authorizer": (f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",),
    "| `read`": (f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",),
    "| `write`": (f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",),
    "| `execute`": (
        f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",
        f"{_AUTH}::sockets",
    ),
    "Pages of other web sites": (
        f"{_AUTH}::xsrf_token_beside_a_cookie",
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::other_names_of_this_server_are_refused",
        f"{_AUTH}::refusals_say_why",
    ),
    "Requests from an unknown origin": (
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::other_names_of_this_server_are_refused",
    ),
    "WebSockets and the sign-in": (
        f"{_AUTH}::sockets",
        f"{_AUTH}::a_sign_in_is_checked_like_a_post_request",
        f"{_PAGE}::the_websocket_accepts_only_users_and_our_own_pages",
    ),
    "Browsers also report": (
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
        f"{_AUTH}::only_its_pages_are_accepted",
    ),
    "A link on another site": (
        f"{_AUTH}::links_from_other_sites_show_but_do_nothing",
        f"{_AUTH}::a_sign_in_is_checked_like_a_post_request",
    ),
    "Pages at another port": (f"{_AUTH}::a_page_at_another_port_cannot_sign_in",),
    "The same holds for pages": (
        f"{_PAGE}::a_page_of_the_same_origin_needs_the_token",
        f"{_PAGE}::only_the_websocket_of_comfyui_is_opened",
        f"{_AUTH}::there_are_no_other_sockets",
        f"{_HUB}::another_users_page_cannot_use_the_server",
        f"{_HUB}::a_users_own_page_works",
    ),
    "ComfyDeploy needs no Jupyter token": (
        f"{_MACHINE}::the_service_is_accepted",
        f"{_MACHINE}::wrong_tokens",
        f"{_MACHINE}::without_a_configured_token_nobody_is_accepted",
    ),
    "With this token it can call": (f"{_MACHINE}::no_other_route_accepts_the_token",),
    # -- files and addresses that the routes can reach
    "**Files.**": (
        f"{_FILES}::every_field_that_takes_a_path_is_tried",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "ComfyUI's `models`": ("comfyui/test_folders.py::names_inside_the_folders_are_resolved",),
    "Links are resolved": (
        "comfyui/test_folders.py::a_link_swapped_in_after_the_check_leads_nowhere",
        "comfyui/test_folders.py::swapping_all_the_time_never_escapes",
    ),
    "A path outside": (
        "comfyui/test_folders.py::missing_and_existing_files_outside_are_refused_alike",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "Devices, pipes and sockets": (
        "comfyui/test_folders.py::a_named_pipe_in_place_of_a_file_does_not_block",
    ),
    "Uploads and models are": (
        "files/test_uploads.py::the_same_content_is_reused_and_other_content_gets_a_free_name",
        "files/test_uploads.py::many_at_once_never_overwrite_each_other",
        "files/test_uploads.py::overwrite",
        "transfers/test_downloads.py::other_file_of_that_name_stays",
    ),
    "`GET view` serves": (
        "handlers/test_view.py::other_files_cannot_be_read",
        f"{_FILES}::no_spelling_leads_outside",
    ),
    "**What the browser shows.**": (
        f"{_FILES}::no_output_runs_scripts_in_jupyters_origin",
        f"{_FILES}::a_file_name_cannot_add_a_header",
        f"{_SERVICES}::a_remote_file_has_the_type_of_its_name_alone",
        f"{_SERVICES}::unusual_headers_stay_one_line_and_cause_no_error",
    ),
    "Pages of ComfyDeploy": (
        "handlers/test_site.py::responses_cannot_run_scripts_in_jupyters_origin",
        f"{_SERVICES}::no_service_sets_headers_for_jupyters_origin",
    ),
    "Everything that ComfyUI serves": (
        f"{_PAGE}::a_file_cannot_run_scripts_as_a_page",
        f"{_PAGE}::a_file_without_a_type_is_application_octet_stream",
        f"{_PAGE}::files_of_users_are_not_served_as_pages_or_scripts",
        f"{_PAGE}::requests_for_service_workers_are_refused",
        "browser/test_comfyui_page.py::no_file_of_comfyui_runs_scripts_in_jupyters_origin",
    ),
    "ComfyUI's own page is the exception": (
        f"{_PAGE}::the_page_and_its_scripts_and_api_routes",
        f"{_SERVICES}::no_service_sets_headers_for_jupyters_origin",
    ),
    "HTML pages of custom nodes": (f"{_PAGE}::a_file_cannot_run_scripts_as_a_page",),
    "Turn the page off": (f"{_PAGE}::the_page_is_not_served",),
    "Texts of workflows": (
        "security/test_hostile_names.py::texts_in_notebooks_are_escaped",
        "security/test_hostile_names.py::control_characters_for_terminals_are_escaped",
        "security/test_hostile_names.py::control_characters_in_what_users_print_are_escaped",
        "widgets/test_base.py::parts_escape_what_they_show_and_have_names",
        "widgets/test_run_panel.py::a_failure_is_shown_escaped",
        f"{_PANEL}::a_failure_is_described_and_escaped",
    ),
    "Scripts, notebooks and Dockerfiles": (
        "graphs/test_python_script.py::texts_of_the_workflow_never_become_code",
        "snapshots/test_route.py::names_with_shell_syntax_cannot_become_commands",
        "security/test_hostile_names.py::a_requirement_is_no_option_of_pip",
    ),
    "**What proxies forward.**": (
        f"{_PAGE}::jupyters_credentials_are_not_sent_to_comfyui",
        f"{_PAGE}::only_listed_request_headers_are_passed_on",
        f"{_PAGE}::only_listed_response_headers_are_passed_back",
        "handlers/test_site.py::jupyters_credentials_are_not_sent",
    ),
    "A redirect of ComfyUI": (f"{_PAGE}::targets_of_redirects",),
    "Links in a workflow file": (
        "transfers/test_public.py::a_connection_is_checked_by_its_address",
        "transfers/test_public.py::name_is_looked_up_when_the_connection_is_made",
        "handlers/test_fetch_models.py::a_redirect_from_a_mirror_to_a_private_address_is_refused",
    ),
    "`offline = True` forbids": (
        "net/test_fetch_policy.py::installer_fetches_nothing",
        "transfers/test_public.py::offline_mode_ends_transfers_in_progress",
    ),
    "Redirects are followed": (
        f"{_SERVICES}::no_redirect_is_followed",
        f"{_SERVICES}::the_token_stays_with_its_site",
        f"{_SERVICES}::redirects_lead_to_http_addresses_only",
    ),
    "**How much.**": (
        f"{_BOMBS}::a_body_has_a_size_limit",
        "files/test_uploads.py::a_file_too_large_for_the_disk_is_refused_at_once",
    ),
    "Answers of ComfyUI": (
        f"{_SERVICES}::replies_are_read_up_to_a_limit",
        f"{_SERVICES}::an_endless_reply_is_ended",
    ),
    "An input file may have": (
        f"{_BOMBS}::archives_with_too_large_declared_sizes_are_not_opened",
        f"{_BOMBS}::no_more_is_unpacked_than_the_declared_size",
    ),
    "At most 64 MiB of a file": (
        f"{_BOMBS}::metadata_with_sizes_that_lie",
        f"{_BOMBS}::thumbnails_are_of_pictures_of_bounded_size",
        "graphs/test_image_metadata.py::a_compression_bomb_is_not_unpacked",
    ),
    "JSON that is nested": (
        f"{_BOMBS}::deep_json",
        f"{_BOMBS}::json_in_a_text_of_json",
        f"{_SERVICES}::malformed_replies_are_reported",
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
        f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",
        "openapi/test_document.py::the_same_document_has_the_same_tag",
    ),
    # -- places of keys
    "| Jupyter's token": (
        f"{_PAGE}::jupyters_credentials_are_not_sent_to_comfyui",
        f"{_SERVICES}::each_service_gets_its_own_credentials_alone",
    ),
    "| ComfyDeploy key": (
        f"{_SECRETS}::no_reply_log_or_file_has_a_secret",
        "cloud/test_client.py::allow_list",
    ),
    "| `api_key`": (
        "cloud/test_client.py::order_of_the_keys",
        "transfers/test_callbacks.py::configured_key_only_where_it_may_go",
    ),
    "| key of a Comfy account": (
        "runs/test_partner_keys.py::which_key_a_run_has",
        "runs/test_partner_keys.py::keys_are_sent_to_comfyui_only",
        "runs/test_partner_keys.py::a_kept_key_is_there_after_a_restart_and_readable_by_its_owner_only",
    ),
    "| sign-in of a Comfy account": (
        "runs/test_comfy_sign_in.py::runs_have_the_token_until_the_user_signs_out",
        "runs/test_comfy_sign_in.py::passwords_and_tokens_are_never_shown",
    ),
    "| `huggingface_token`": (
        "transfers/test_downloads.py::hugging_face",
        f"{_SERVICES}::each_service_gets_its_own_credentials_alone",
    ),
    "| `machine_token`": (f"{_MACHINE}::wrong_tokens",),
    "| what a ComfyUI behind a reverse proxy asks for": (
        "machines/test_guarded.py::the_credentials_of_a_comfyui_are_never_shown",
        f"{_GATE}::the_credentials_of_the_service_are_never_shown",
    ),
    "| secret of a tunnel": (
        f"{_GATE}::the_secret_is_in_no_file_argument_or_environment",
        f"{_SECRETS}::no_reply_log_or_file_has_a_secret",
    ),
    "| token of a named tunnel": ("handlers/test_tunnel.py::named_tunnel",),
    "The machine strip": (f"{_PANEL}::the_notebook_keeps_no_secret",),
    "ComfyUI and other programs": (
        f"{_SECRETS}::children_get_no_keys_of_jupyter_and_comfydeploy",
        f"{_SECRETS}::values_that_hold_secrets_are_known",
        f"{_SECRETS}::no_reply_log_or_file_has_a_secret",
    ),
    "Interpreters that list": (f"{_SECRETS}::queried_programs_get_only_the_environment_they_need",),
    "In the launch arguments": (
        f"{_SECRETS}::masked_arguments_keep_their_secrets_when_sent_back",
        "machines/test_routes.py::masked_secrets_keep_their_value_when_sent_back",
    ),
    "A key in a request": (f"{_SECRETS}::no_reply_log_or_file_has_a_secret",),
    "During a transfer": (
        "transfers/test_uploads.py::tokens_are_deleted_when_a_transfer_ends",
        f"{_SECRETS}::no_reply_log_or_file_has_a_secret",
    ),
    "Replies, logs, metrics": (
        f"{_SECRETS}::no_reply_log_or_file_has_a_secret",
        f"{_SECRETS}::no_reply_or_log_has_their_password",
        f"{_SERVICES}::the_reason_of_a_failure_has_no_url",
        "cloud/test_client.py::the_key_is_never_shown",
    ),
    "[A snapshot for Docker]": ("snapshots/test_route.py::secrets_are_left_out",),
    "A Jupyter server that `connect()`": (
        "client/test_discovery.py::without_a_server_one_is_started_and_ends_with_its_client",
    ),
    # -- access to each address
    "| a user who may only `read`": (f"{_AUTH}::the_authorizer_is_called_once_with_our_resource",),
    "| another user of the same JupyterHub": (
        f"{_AUTH}::requests_without_credentials_are_refused",
        f"{_AUTH}::pages_of_other_sites_cannot_use_the_login",
    ),
    "| another user of this machine": (
        f"{_OTHERS}::another_users_server_is_refused_and_receives_nothing",
        f"{_OTHERS}::another_users_server_at_our_port_is_not_used",
    ),
    "| the author of a workflow": (
        "security/test_hostile_names.py::texts_in_notebooks_are_escaped",
        f"{_BOMBS}::metadata_with_sizes_that_lie",
    ),
    "| the author of a custom node": (
        f"{_REPOSITORIES}::commands_configured_in_a_repository_are_not_run",
        f"{_REPOSITORIES}::hidden_commands_in_a_repositorys_configuration_are_not_run",
    ),
    "They cannot pretend": (f"{_OTHERS}::another_users_server_is_refused_and_receives_nothing",),
    "Before the first byte": (
        f"{_OTHERS}::another_users_server_is_refused_and_receives_nothing",
        f"{_OTHERS}::another_users_server_is_refused_over_ipv6",
        f"{_OTHERS}::another_users_server_is_refused_at_other_local_addresses",
        f"{_OTHERS}::no_websocket_to_another_users_server_is_opened",
        f"{_OTHERS}::another_users_server_that_accepts_slowly_is_refused",
        f"{_OTHERS}::a_connection_accepted_before_another_users_server_left_is_refused",
    ),
    "It must be the ComfyUI that the extension": (
        f"{_OTHERS}::users_named_in_the_setting_are_trusted",
    ),
    "Every other process": (
        f"{_OTHERS}::another_users_server_at_the_usual_port_is_skipped",
        f"{_OTHERS}::another_users_server_at_our_port_is_not_used",
        f"{_OTHERS}::a_start_at_an_occupied_port_fails",
        f"{_OTHERS}::the_gate_of_a_tunnel_refuses_another_users_server",
    ),
    "It also holds for the port": (
        f"{_OTHERS}::another_users_server_does_not_name_the_address_of_a_tunnel",
        f"{_OTHERS}::the_proxy_of_a_worker_forwards_nothing_to_another_users_server",
    ),
    "Clients check Jupyter in the same way": (
        f"{_OTHERS}::another_users_server_gets_no_token_of_jupyter",
        f"{_OTHERS}::a_file_of_a_server_whose_process_is_another_users_is_skipped",
    ),
    "An address that you pass": (f"{_OTHERS}::an_address_that_the_user_gives_is_used",),
    "ComfyUI's folders come from": (
        f"{_OTHERS}::folders_are_not_read_from_http_replies",
        "comfyui/test_running.py::a_comfyui_started_by_path_or_by_name_is_found",
    ),
    "If the owner cannot": (
        f"{_OTHERS}::a_server_whose_user_is_unknown_is_refused",
        f"{_OTHERS}::users_named_in_the_setting_are_trusted",
    ),
    "A ComfyUI in one of the usual places": (
        f"{_DISCOVERY}::a_tree_that_others_can_change_is_used_only_if_it_is_named",
        f"{_DISCOVERY}::an_interpreter_that_others_can_change_is_used_only_if_its_folder_is_named",
    ),
    "Above them may be a sticky folder": (f"{_DISCOVERY}::a_tree_in_a_sticky_folder_is_found",),
    "A folder to which all users may write": (
        f"{_DISCOVERY}::a_folder_to_which_all_may_write_is_safe_where_nobody_else_can_act",
    ),
    "A folder that you name": (
        f"{_DISCOVERY}::a_tree_that_others_can_change_is_used_only_if_it_is_named",
        f"{_DISCOVERY}::an_interpreter_that_others_can_change_is_used_only_if_its_folder_is_named",
        "clusters/test_leases.py::the_interpreter_in_the_folder_of_a_lease_is_used_whoever_can_change_it",
    ),
    "**Files that are replaced": (
        "runs/test_input_files.py::a_folder_replaced_repeatedly_by_a_link_copies_no_file_from_outside",
        "runs/test_input_files.py::a_link_in_place_of_the_copy_is_not_followed",
        "runs/test_input_files.py::a_link_in_place_of_the_folder_is_not_followed",
        "runs/test_input_files.py::permissions_stay",
        "comfyui/test_folders.py::swapping_all_the_time_never_escapes",
        "snapshots/test_copying.py::a_folder_replaced_by_a_link_during_the_copy_is_not_copied",
    ),
    "**Repositories.**": (
        f"{_REPOSITORIES}::commands_configured_in_a_repository_are_not_run",
        f"{_REPOSITORIES}::hidden_commands_in_a_repositorys_configuration_are_not_run",
    ),
    # -- exposure by a tunnel
    "Nothing is exposed until": ("handlers/test_tunnel.py::start_status_stop",),
    "A user who may only `read`": (
        "handlers/test_tunnel.py::a_user_with_read_permission_only_gets_no_link",
    ),
    "It ends with Jupyter": (
        f"{_ACCESS}::no_process_outlives_a_killed_jupyter",
        f"{_ACCESS}::no_process_outlives_a_stopped_jupyter",
    ),
    "| to ComfyUI (default)": (
        f"{_ACCESS}::comfyui_is_reached_through_the_gate_with_the_secret_only",
        f"{_GATE}::access_needs_the_secret",
        f"{_WIRE}::requests_without_the_secret_are_refused",
        f"{_WIRE}::a_request_inside_the_body_of_another_is_not_passed_on",
    ),
    "| to ComfyUI, `protect=False`": (f"{_ACCESS}::the_user_can_turn_the_gate_off",),
    "| to Jupyter": (
        f"{_ACCESS}::jupyter_through_its_tunnel",
        f"{_ACCESS}::a_jupyter_without_authentication_gets_a_gate",
    ),
    "The gate is a separate process": (f"{_GATE}::a_killed_gate_is_restarted_at_its_address",),
    "A browser that opens": (
        f"{_GATE}::a_browser_sends_the_secret_once_and_gets_a_cookie",
        f"{_WIRE}::the_redirect_that_removes_the_secret_stays_on_the_host",
    ),
    "Bearer": (f"{_GATE}::programs_send_the_secret_in_a_header_or_the_address",),
    "ComfyUI receives neither": (
        f"{_WIRE}::headers_with_the_secret_are_not_passed_on",
        f"{_GATE}::programs_send_the_secret_in_a_header_or_the_address",
        f"{_GATE}::the_service_gets_the_credentials_that_it_asks_for",
        f"{_GATE}::the_credentials_of_the_service_are_never_shown",
    ),
    "It does not receive the data by which Cloudflare Access": (
        f"{_WIRE}::headers_with_the_secret_are_not_passed_on",
    ),
    "After ten wrong secrets": (
        f"{_GATE}::guesses_are_limited_for_each_address",
        f"{_GATE}::invented_addresses_give_no_new_attempts",
        f"{_GATE}::guesses_with_a_false_address_lock_out_nobody_with_the_secret",
    ),
    "Other web sites cannot use a": (
        f"{_GATE}::other_sites_may_not_use_the_cookie",
        f"{_WIRE}::other_sites_may_only_link_to_the_service",
    ),
    "A connection with an incomplete request": (
        f"{_WIRE}::incomplete_request_heads_are_limited_in_number_and_time",
    ),
    "The gate's log contains": (
        f"{_WIRE}::the_log_is_bounded_and_has_no_secret",
        f"{_WIRE}::random_requests_do_not_end_the_gate",
        f"{_WIRE}::malformed_requests_cause_no_server_error",
    ),
    "cloudflared is downloaded": (
        "tunnel/test_binary.py::the_order_is_setting_then_path_then_cache",
    ),
    "The download is compared": ("tunnel/test_binary.py::a_bad_download_leaves_no_file",),
    # -- checks
    "`make check` runs": (
        "test_audit.py::findings_fail",
        "test_audit.py::without_an_audit_service_the_audit_is_reported_as_skipped",
    ),
    "`tests/fuzz` gives": (
        "fuzz/test_parsers.py::pictures_videos_and_sounds",
        "fuzz/test_parsers.py::archives_of_pictures",
    ),
}

# Advice, consequences of other sentences, and facts about other programs.
ADVICE = (
    "**Clusters.** Whoever reaches",
    "On one machine, any of its users can do",
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
