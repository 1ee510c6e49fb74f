//! The whole role in a process of its own, driven over its channels by a test that plays everybody else: the master, the
//! session spawner, sessions honest and hostile, and the spawner.
//!
//! Without the usual harness, because fork(2) wants a process without threads. As root it runs in a mount name space of its own,
//! with made-up users and PAM services; otherwise the tests that need them are skipped by name.

mod app_passwords;
mod derived;
mod external;
mod hostile;
mod login_cache;
mod rig;
mod sasl;
mod stores;
mod system;
mod tokens;
mod workers;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Set in the process that has its own mount name space.
const INSIDE: &str = "ROLE_AUTH_TEST_INSIDE";

struct Test {
    name: &'static str,
    run: fn(),
    needs_root: bool,
}

/// A list of tests from function names.
macro_rules! tests {
    ($needs_root:expr, $module:ident: $($name:ident),+ $(,)?) => {
        [$(Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
            needs_root: $needs_root,
        }),+]
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside && may_mount() {
        enter_name_space(&arguments);
    }
    if inside {
        system::make_up_users();
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut ran = 0;
    for test in all() {
        if wanted.is_some_and(|wanted| !test.name.contains(wanted.as_str())) {
            continue;
        }
        if test.needs_root && !inside {
            println!("skipped, needs root: {}", test.name);
            continue;
        }
        println!("test {} ...", test.name);
        // A failing test panics, and that ends this process with a status that says so.
        (test.run)();
        ran += 1;
    }
    println!("test result: ok. {ran} passed");
    ExitCode::SUCCESS
}

fn all() -> Vec<Test> {
    let mut all = Vec::new();
    all.extend(tests!(false, stores:
        a_right_password_starts_a_maildrop_process,
        a_wrong_password_may_be_followed_by_a_right_one,
        an_unknown_name_is_not_logged_and_a_known_one_is,
        the_attempt_limit_closes_the_channel_after_the_verdict,
        failures_are_answered_late_and_later,
        apop_takes_the_digest_and_refuses_the_password,
        an_address_with_a_directory_has_users_of_its_own,
        a_second_login_too_soon_is_told_so,
        a_changed_users_file_counts_at_once,
        an_unsafe_users_file_is_refused_for_everybody_alike,
        unknown_known_and_locked_users_cost_the_same,
    ));
    all.extend(tests!(false, hostile:
        every_violation_ends_its_session_and_no_other,
        a_session_that_leaves_in_the_middle_harms_nobody,
        a_bad_announcement_ends_the_session_spawners_channel,
        a_dead_spawner_is_temporary_and_a_new_one_serves,
        a_lease_that_takes_no_note_holds_nobody_up,
        sessions_outlive_the_master,
        a_reload_counts_for_sessions_that_are_there,
    ));
    all.extend(tests!(false, sasl:
        every_mechanism_logs_in_and_is_logged,
        plus_is_bound_to_the_channel_that_the_session_tells_of,
        a_wrong_password_is_refused_as_everywhere,
        a_proof_is_refused_late_and_a_cancel_counts,
        decoys_are_stable_and_look_like_the_others,
        who_cannot_log_in_cannot_prove_anything,
        a_broken_store_is_the_same_for_everybody,
        a_user_of_an_earlier_store_is_not_looked_for_in_the_file,
        a_session_may_leave_at_any_step,
        looking_up_costs_the_same_for_everybody,
    ));
    all.extend(tests!(false, external:
        a_certificate_logs_its_user_in_by_any_form_of_auth,
        the_name_may_be_the_subjects_and_a_choice_of_several_is_the_clients,
        whatever_is_no_proof_is_refused,
        a_handshake_counts_on_the_session_that_it_took_place_on_and_on_no_other,
        who_is_locked_out_stays_so,
        a_handshake_cut_at_any_octet_harms_nobody,
        what_no_honest_session_says_of_a_handshake_ends_it,
        attempts_by_certificate_are_counted_and_delayed_as_others,
        new_certificates_take_the_place_of_the_old,
    ));
    all.extend(tests!(true, external:
        the_systems_users_are_let_in_as_shadow_and_pam_allow,
    ));
    all.extend(tests!(false, app_passwords:
        each_logs_in_with_its_label_and_its_rights,
        plain_and_login_take_them_and_scram_the_users_own_only,
        one_that_is_not_taken_is_a_wrong_password_and_the_log_says_why,
        a_locked_account_has_none,
        a_changed_file_counts_at_once_and_a_broken_one_harms_nobody_else,
        no_password_is_too_strange_and_no_user_has_more_than_count,
        how_many_a_user_has_does_not_change_what_a_wrong_password_costs,
    ));
    all.extend(tests!(false, login_cache:
        a_second_login_costs_no_hash_and_a_wrong_password_does,
        after_a_change_of_password_the_old_one_fails_at_once,
        a_reload_forgets_and_a_short_life_ends,
    ));
    all.extend(tests!(false, workers:
        a_slow_login_does_not_delay_another,
        more_attempts_than_workers_are_all_decided,
        a_killed_worker_fails_one_attempt,
        the_role_is_confined,
    ));
    all.extend(tests!(false, tokens:
        a_valid_token_opens_its_users_maildrop_in_both_mechanisms_and_forms,
        a_refused_token_is_told_why_in_a_challenge_and_counts_as_an_attempt,
        whoever_the_token_names_is_refused_as_by_password_if_the_account_is_none,
        what_cannot_be_checked_is_no_refusal,
        a_token_that_is_not_checked_holds_nobody_up_and_is_given_up_in_time,
        a_token_role_that_talks_nonsense_is_left,
        without_oauth_no_token_is_taken,
    ));
    all.extend(tests!(true, derived:
        after_plain_over_tls_the_next_login_may_be_scram,
        a_change_of_password_or_a_lock_ends_it_at_once,
        nothing_is_derived_without_the_key_or_tls_or_the_right_password,
        pam_is_asked_again_and_only_the_systems_own_hash_counts,
        a_verifier_cannot_be_seen_and_looking_up_costs_the_same,
    ));
    all.extend(tests!(true, tokens:
        a_token_of_a_system_user_opens_the_account_unless_it_is_locked,
    ));
    all.extend(tests!(true, system:
        shadow_decides_as_the_system_does,
        app_passwords_serve_the_systems_users_while_their_accounts_are_good,
        pam_decides_as_its_service_says,
        pam_unix_knows_the_systems_users,
        a_slow_pam_module_does_not_delay_another_login,
        a_crashing_pam_module_fails_one_attempt,
        what_pam_costs_is_hidden_by_the_delay,
        shadow_costs_the_same_for_everybody,
        what_a_module_runs_is_confined,
        an_unreadable_domain_does_not_put_names_into_the_log,
    ));
    all
}

/// Whether this is a root that may have mounts of its own; in some containers it may not.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    rustix::process::geteuid().is_root() && tried.is_ok_and(|tried| tried.status.success())
}

/// Runs this program again with mounts of its own.
fn enter_name_space(arguments: &[String]) -> ! {
    let this = std::env::current_exe().expect("own path");
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(this)
        .args(arguments)
        .env(INSIDE, "1")
        .exec();
    panic!("unshare(1): {error}");
}
