//! What is tried, against which promise, and what must come of it: one file a kind of attack.

mod exhaustion;
mod files;
mod kernel;
mod neighbours;
mod processes;

use model::invocation::FailureKind;

use super::{Attack, Lack, Must, Program};

/// The rows of the table "What keeps a function in" of `SECURITY.md` that the attacks are against.
mod promise {
    pub(super) const SIGHT: &str = "sees no process, socket, shared memory or host name of others";
    pub(super) const FILES: &str =
        "sees no file but its runtime's, its own code and layers and its own `/tmp`";
    pub(super) const KNOBS: &str = "learns and changes nothing of the host by `/proc` and `/dev`";
    pub(super) const KERNEL: &str =
        "reaches only the part of the kernel that ordinary programs use";
    pub(super) const CODE: &str = "cannot change its runtime or code, also not for other instances";
    pub(super) const LAYERS: &str = "cannot change a layer, which other functions may have as well, nor reach one that it has not";
    pub(super) const RIGHTS: &str = "has no rights on the host";
    pub(super) const MEMORY: &str = "cannot fill memory or the process table";
    pub(super) const WHOLE: &str = "is whole or gone when its memory runs out";
    pub(super) const CPU: &str = "cannot take the processors for itself";
    pub(super) const DISK: &str = "cannot fill the disk";
    pub(super) const DEADLINE: &str = "is gone at the deadline, with all it started";
    pub(super) const WATCHED: &str = "cannot reach the process that watches over it";
    pub(super) const NETWORK: &str = "reaches no network, unless its configuration says so";
    pub(super) const ENVIRONMENT: &str = "learns nothing of the daemon's environment";
    pub(super) const PROTOCOL: &str = "cannot confuse the daemon";
    pub(super) const LOGS: &str = "cannot flood logs";
}

/// The row of web servers.
const WEB: &str = "as a web server, spoils no call but the one that it answers";

/// Rows that other tests are against: the row, the test.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "does not outlive the daemon",
        "daemon::a_killed_daemon_leaves_nothing_that_the_next_does_not_clear",
    ),
    ("does nothing between its calls", "freezing::nothing_that_a_function_does_keeps_it_running"),
    ("leaves nothing behind", "leaks::two_thousand_instances_leave_nothing"),
    (
        "with a network, reaches public addresses or named ones, and never the host, other instances, or (unless named) private and link-local ranges",
        "network::egress_reaches_the_internet_and_nothing_private",
    ),
    ("cannot use up the host's network", "network::connections_are_bounded"),
    (WEB, "web-server::what_is_no_answer_fails_one_call_alone"),
    (WEB, "web-server::what_has_no_end_ends_at_the_deadline"),
    (WEB, "web-server::an_answer_that_is_not_as_long_as_it_says_is_not_whole"),
    (WEB, "web-server::an_answer_that_nobody_asked_for_answers_nobody"),
    (WEB, "web-server::a_server_that_does_not_read_is_not_read_for"),
    (WEB, "web-server::a_server_may_refuse"),
    (WEB, "web-server::a_server_may_say_what_it_wants_and_no_more_is_read_than_is_taken"),
];

/// Finds secrets; says nothing where there are none to be found.
pub(super) const SEARCH: &str = include_str!("programs/search.py");

/// Refused by the system call filter or for want of the right; a call that the kernel was built without is no way out either.
const NO: &str = "EPERM|ENOSYS";
/// Not there, or not for this user, or read-only, or masked by something empty.
const CLOSED: &str = "ENOENT|EACCES|EPERM|EROFS|ENODATA";

/// Every attack.
pub(super) fn all() -> impl Iterator<Item = &'static Attack> {
    [kernel::ATTACKS, files::ATTACKS, processes::ATTACKS, neighbours::ATTACKS, exhaustion::ATTACKS]
        .into_iter()
        .flatten()
}

/// Each row of the table has an attack, and each attack a row.
pub(super) fn every_promise_is_attacked() {
    let document = include_str!("../../../../../SECURITY.md");
    let section = document.split("## What keeps a function in").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|row| *row != "promise")
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in &rows {
        let attacked = all().any(|attack| attack.promise == *row);
        let elsewhere = ELSEWHERE.iter().any(|(promise, _)| promise == row);
        assert!(attacked || elsewhere, "no attack is against: {row}");
    }
    for attack in all() {
        assert!(
            rows.contains(&attack.promise),
            "{}: no such promise: {}",
            attack.name,
            attack.promise
        );
    }
    let tests = crate::all_tests();
    for (promise, test) in ELSEWHERE {
        assert!(rows.contains(promise), "no such promise: {promise}");
        assert!(tests.iter().any(|there| there.name == *test), "no such test: {test}");
    }
}
