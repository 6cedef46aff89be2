"""Which tests the default run leaves out: they are marked `stress`, and `.ci/run` runs them after it.

A test whose length is a parameter marks the long cases itself, with `stressed`, `first` or `only`. Any other family of
cases is listed in `CASES`, and keeps its first cases of each kind of store in the default run.

A test in `ROTATED` keeps one kind of store, which its name happens to choose. So a test of what only one kind of store
does belongs elsewhere: it names its kinds itself.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import settings

KINDS = ("json", "sqlite", "redis")
CASES: dict[str, int] = {  # of a test's function: how many cases of each kind of store stay in the default run
    # Kill loops
    "test_an_import_that_was_killed_leaves_nothing_and_can_be_done_again": 0,
    "test_prune_killed_at_any_point_keeps_remaining_states": 0,
    "test_killed_before_every_step": 1,
    "test_killed_before_any_step_every_kept_revision_reads_as_before": 0,
    "test_after_a_kill_redis_need_not_be_waited_for": 0,
    "test_ctrl_c_lets_go_and_the_next_goes_on": 0,
    "test_the_real_program_ends_at_once_while_a_job_runs": 0,
    "test_kill_in_restores": 0,
    "test_kill_in_checkpoints": 0,
    # Files that are damaged in every way
    "test_json_cut_off_at_every_byte": 0,
    "test_a_file_cut_off_anywhere_is_never_a_wrong_answer": 0,
    "test_a_flipped_bit_is_never_a_wrong_answer": 1,
    "test_a_store_is_larger_than_what_is_checked_whole_when_it_is_opened": 2,
    "test_each_single_thing_that_is_missing_is_mended_or_named": 0,
    "test_sqlite_every_flipped_bit_of_what_is_used_is_an_error": 0,
    "test_sqlite_bits_flipped": 0,
    "test_sqlite_a_bit_of_the_header": 4,
    "test_the_first_act_that_meets_a_loss_is_refused_and_recover_ends_it": 0,
    # Random steps and seeds
    "test_forgetting_keeps_what_checkpoints_see": 1,
    # Processes and threads that race
    "test_many_writers_leave_the_list_whole": 0,
    "test_others_write_and_mark_while_it_prunes": 0,
    "test_a_close_beside_threads_that_read_and_write_is_no_error_of_the_library": 0,
    "test_a_reader_sees_all_of_a_large_commit_or_nothing": 0,
    "test_a_read_answers_as_before_or_as_after_a_commit_in_the_middle_of_it": 1,
    "test_of_two_dashboards_that_edit_one_key_the_second_is_told_and_nothing_is_lost": 0,
    "test_after_ctrl_c_anywhere_the_manager_sees_what_a_new_manager_sees": 2,
    "test_an_exception_of_a_handler_that_saved_ends_the_outer_call": 0,
    "test_an_act_that_is_stopped_is_repeated": 1,
    # Waits for clocks
    "test_a_commit_that_takes_longer_than_a_reply_may_is_applied_once": 0,
    "test_a_program_that_does_not_end_is_killed": 1,
    # Several servers, and browsers
    "test_a_browser_paints_the_program_and_its_keys_reach_it": 0,
    "test_opening_a_browser_shows_the_token_to_nobody_else": 0,
    "test_a_page_writes_no_file_of_the_server_and_downloads_instead": 0,
    "test_a_browser_gets_what_is_copied_and_the_files_that_are_handed_out": 0,
    "test_an_import_is_approved_on_the_full_screen": 0,
    "test_the_masks_are_on_without_settings_and_off_with_them": 0,
    "test_a_browser_says_why_the_program_ended_and_opens_it_again": 0,
    "test_a_cluster_of_three_nodes": 0,
    "test_a_failover_by_a_sentinel": 0,
    "test_a_pattern_and_a_limit_choose_the_names": 0,
    "test_nothing_is_stale_for_long_behind_a_network_that_went_quiet": 0,
    "test_on_a_cluster_repeated_loads_come_from_memory_and_a_wait_is_woken": 0,
    "test_redis_replica": 0,
    "test_redis_a_replica_and_what_may_not_be_asked_are_said": 0,
    "test_a_commit_waits_while_its_slot_is_moved_and_is_applied_once": 0,
    "test_a_fork_does_not_wait_for_a_server_that_does_not_answer": 0,
    "test_an_explicit_timeout_holds_for_the_first_contact_too": 0,
    "test_too_few_replicas_are_waited_for_and_then_named": 0,
    "test_the_dashboard_itself_is_served_and_writes_only_where_that_was_asked_for": 0,
    # Random values, each compared with Python's answer
    "test_a_search_finds_what_python_finds": 0,
    # A full disk at one more place
    "test_a_full_disk_is_an_error_after_which_it_goes_on": 0,
    # Large data
    "test_what_was_copied_is_not_copied_again": 0,
    "test_packed_files_are_bounded_and_checked": 0,
    "test_a_file_that_was_nested_far_beyond_the_limit_by_hand_is_an_error_on_every_screen_that_reads": 0,
    "test_a_hundred_thousand_changes_come_in_while_one_looks_and_can_be_stopped": 0,
    "test_a_hundred_thousand_keys_are_walked_and_few_are_held": 0,
    "test_a_large_database_short_of_its_last_pages": 0,
    "test_packed_history_keeps_its_ratio": 0,
    "test_a_large_value_goes_to_the_editor_at_once": 0,
    "test_a_large_value_is_decoded_as_far_as_it_is_looked_at": 0,
    "test_a_paste_of_three_thousand_lines": 0,
    "test_a_value_of_fifty_megabytes_shows_its_start_and_size": 0,
    "test_a_value_of_many_megabytes_is_compared_aside_and_given_up_when_one_goes_on": 0,
    "test_of_a_string_of_50_megabytes_the_start_is_shown": 0,
    "test_pages_read_before_anything_is_learnt_are_true_at_a_hundred_thousand_keys": 0,
    "test_thousands_of_marked_keys_are_restored_and_the_command_line_is_shown_short": 0,
    # Long walks over screens and commands, whose mechanisms have quick tests
    "test_a_line_that_cannot_be_run_comes_back_with_the_reason": 4,
    "test_enter_goes_to_what_was_found": 1,
    "test_errors_name_file_and_line_and_stop": 12,
    "test_every_command_under_scripts": 1,
    "test_help_shows_the_keys_that_were_given_and_they_work": 0,
    "test_help_lists_the_keys_that_work_on_the_screen_under_it_in_groups": 0,
    "test_it_is_painted_again_and_takes_keys": 1,
    "test_redacted_values_are_masked_in_list_and_change": 0,
    "test_the_help_of_a_key_is_in_words": 0,
    "test_a_backend_that_is_lost_keeps_what_was_shown_and_comes_back": 0,
    "test_a_commit_without_one_right_is_refused_as_a_whole_until_the_right_is_given": 1,
    "test_the_command_prompt_offers_retry_and_reset_of_the_step_under_the_cursor": 0,
    "test_a_command_that_fails_in_the_terminal_is_read_before_coming_back": 0,
    "test_a_length_of_time_is_typed_in_one_way_everywhere": 1,
    "test_a_past_state_is_forked_into_a_namespace_which_is_then_looked_at": 0,
    "test_a_patch_is_written_and_nothing_is_overwritten_unasked": 0,
    "test_a_store_that_no_list_holds_can_be_typed": 0,
    "test_a_typed_store_that_cannot_be_read_is_told_and_asked_for_again": 0,
    "test_a_copy_that_differs_is_found_and_removed": 1,
    "test_a_value_is_edited_in_the_editor_of_the_user": 0,
    "test_at_a_terminal_no_command_is_the_dashboard": 1,
    "test_an_import_that_changes_only_when_keys_expire_says_so": 0,
    "test_checkpoints_are_made_renamed_and_deleted": 0,
    "test_history_steps_through_versions_with_what_each_changed": 0,
    "test_in_a_browser_nothing_of_the_server_is_reached": 1,
    "test_the_positional_forms": 1,
    "test_lines_for_scripts_and_silence_without_a_terminal": 0,
    "test_resizing_keeps_the_key_and_the_pane": 0,
    "test_strings_of_any_redis_are_taken_with_what_is_left_of_their_lives": 0,
    "test_the_end_of_the_server_is_quick_and_leaves_nothing": 1,
    "test_w_shows_what_the_commit_that_is_looked_at_changed": 0,
    "test_what_a_search_finds_in_what_is_not_shown_is_one_stop": 0,
    "test_what_is_redacted_is_not_found_by_its_value": 1,
    "test_a_state_can_be_asked_for_by_its_time": 0,
    "test_what_is_redacted_is_in_no_notice_export_search_or_list_of_acts": 0,
    "test_a_page_of_another_origin_gets_nothing_by_the_browsers_cookie": 1,
    "test_quitting_waits_for_no_job_and_answers_no": 1,
    "test_side_by_side_and_back_the_cursor_keeps_its_line": 0,
    "test_the_scroll_bar_is_dragged_to_the_middle": 0,
    "test_correcting_takes_a_tenth_of_a_core_at_most": 0,
    "test_a_script_of_the_shell_needs_a_yes_and_no_transaction": 1,
    "test_a_page_of_large_values_is_short": 0,
    # Screens: each theme, size and kind of store
    "test_a_terminal_sees_a_line_of_progress": 0,
    "test_dim_text_can_be_read_in_every_theme": 0,
    "test_a_backend_that_is_killed_is_told_and_what_is_true_is_shown_when_it_is_back": 1,
    "test_a_screen_looks_as_it_did": 2,
    "test_every_format_prints_every_table": 1,
    "test_every_theme_shows_all_our_screens": 1,
    "test_hostile_data_is_painted_inert_at_every_size": 1,
    "test_nothing_hostile_is_obeyed_or_holds_up_the_screen": 1,
    "test_resizing_in_quick_succession_leaves_every_screen_usable": 1,
    "test_under_no_color_nothing_but_the_terminals_default_is_sent": 1,
}
# Whole files: answers, keys and acts of the dashboard that come in an unlucky order; and what is bad for every screen.
RACES = (
    "tests/dashboard/input/test_action_order.py",
    "tests/dashboard/test_every_screen.py",
    "tests/dashboard/input/test_key_queue.py",
    "tests/dashboard/test_slow_backend.py",
)
# The contract once more on a changed backend: by default each of its tests runs on one kind of store.
REPEATED = ("tests/backends/test_stored_values.py::Test",)
CONTRACT_AGAIN = (*REPEATED, "tests/backends/sealed/test_sealed_stores.py::Test")
# The contract on several servers at once: by default one test, in the stress run each on one topology and server, but
# for the longest. On request all cases run.
ON_TOPOLOGIES = "tests/backends/redis/test_redis_topologies.py::TestTopology"
TOPOLOGIES = ("cluster", "sentinels")
IN_BRIEF = ("test_a_commit_that_is_sent_again_is_one_commit",)
LONGEST = ("test_forgetting_keeps_what_checkpoints_see", "test_what_expired_is_taken_away_by_later_commits")
# What the version of the server may change: on a second server only these run.
OF_SERVERS = (
    "tests/backends/redis/",
    "tests/backends/test_contract.py",
    "tests/backends/packed/test_packed_",
    "tests/manager/test_concurrency.py",
    "tests/manager/test_linearizability.py",
    "tests/manager/test_stateful.py",
)
# A test in these runs on one kind of store by default, and the next test on the next kind. A test of the dashboard runs
# in one size of its terminal, the first.
ROTATED = (
    "tests/cli/test_places.py",
    "tests/cli/commands/test_run_commands.py",
    "tests/cli/commands/test_search.py",
    "tests/dashboard/",
    "tests/langgraph/",
    "tests/maintenance/",
    "tests/aio/test_async_cancel.py",
    "tests/aio/test_async_manager.py",
    "tests/manager/test_concurrency.py",
    "tests/manager/test_legacy_users.py",
    "tests/states/",
    "tests/transfer/",
    "tests/workflow/",
)


def stressed(*values: Any) -> list[Any]:
    """Cases of `parametrize` that the default run leaves out; a tuple is of as many arguments."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.stress) for value in values
    ]


def first(values: Iterable[Any], number: int = 1) -> list[Any]:
    """Cases of `parametrize`: the default run takes so many, and leaves out the rest."""
    every = list(values)
    return [*every[:number], *stressed(*every[number:])]


def only(values: Iterable[Any], *chosen: Any) -> list[Any]:
    """Cases of `parametrize`: the default run takes those that are chosen, and leaves out the rest."""
    every = list(values)
    assert all(one in every for one in chosen), "a case that is chosen is not among the cases"
    return [case for value in every for case in ([value] if value in chosen else stressed(value))]


def stride(usual: int) -> int:
    """The distance between two tried places of an exhaustive test: by hand as small as the environment says."""
    return int(os.environ.get("STATEVIEW_TEST_STEP", usual))


def examples(number: int) -> int:
    """The `max_examples` of a test of slow steps: `number` of each 250 of the profile (`stress` 75, default 40)."""
    return max(number * settings().max_examples // 250, 2)


def mark(items: Sequence[pytest.Item], servers: Sequence[str]) -> None:
    """Mark the cases that the default run leaves out, among them those on a Redis server other than the first."""
    second = servers[1:]
    themselves = {_family(item) for item in items if item.get_closest_marker("stress")}
    kinds: dict[str, list[str]] = {}
    for item in items:
        if (kind := _kind(item)) and not _names(item, second) and kind not in kinds.setdefault(_family(item), []):
            kinds[_family(item)].append(kind)
    seen: Counter[tuple[str, str]] = Counter()
    sizes: dict[str, Any] = {}
    for item in items:
        family, kind, name = _family(item), _kind(item), item.name.partition("[")[0]
        seen[family, kind] += item.get_closest_marker("stress") is None
        left_out = _names(item, second) or family.startswith(RACES)
        if family.startswith(REPEATED):
            _, kind_of_class, test = family.split("::")
            left_out = left_out or KINDS[len(test) % len(KINDS)] != kind_of_class.removeprefix("Test").lower()
        left_out = left_out or seen[family, kind] > CASES.get(name, len(items))
        given = _given(item)
        left_out = left_out or (family.startswith(ON_TOPOLOGIES) and name not in IN_BRIEF)
        rotated = family.startswith(ROTATED) and name not in CASES and not (family in themselves and "source" in given)
        if rotated and (of := kinds.get(family)):
            left_out = left_out or kind not in ("", of[len(family) % len(of)])
        if "size" in given and family.startswith("tests/dashboard/") and name not in CASES:
            left_out = left_out or given["size"] != sizes.setdefault(family, given["size"])
        if left_out:
            item.add_marker(pytest.mark.stress)


def is_repeated(item: pytest.Item, servers: Sequence[str]) -> bool:
    """Return whether a case says on another server what it says on the first. On request all cases run."""
    if stride(0):
        return False
    if item.nodeid.startswith(ON_TOPOLOGIES) and (name := item.name.partition("[")[0]) not in IN_BRIEF:
        cases = [(topology, server) for topology in TOPOLOGIES for server in servers]
        return name in LONGEST or not all(word in item.name for word in cases[len(name) % len(cases)])
    if not _names(item, servers[1:]):
        return False
    return item.nodeid.startswith(CONTRACT_AGAIN) or not item.nodeid.startswith(OF_SERVERS)


def _family(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _given(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of a case."""
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _names(item: pytest.Item, servers: Sequence[str]) -> bool:
    return any(server in item.name for server in servers)


def _kind(item: pytest.Item) -> str:
    return next((kind for kind in KINDS if kind in item.name.partition("[")[2]), "")
