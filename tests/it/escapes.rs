//! The sixty ways out of the cage, and where each is tried: a number, a file, and words that stand in the name of its test.
//! An attempt without a test, or a test that was renamed, is found here.

use std::path::Path;

/// Where the cage's own tests are; they run in both tiers.
const ATTACKS: &str = "worker/tests/cage/attacks.rs";
const VIEWS: &str = "worker/tests/cage/views.rs";
const LIVES: &str = "worker/tests/cage/lives.rs";
const LIMITS: &str = "worker/tests/cage/limits.rs";
const DOORS: &str = "worker/tests/cage/doors.rs";
const GUESTS: &str = "worker/tests/cage/guests.rs";
/// Where the git inside and outside is tried, with the whole program.
const GIT: &str = "tests/it/worktree.rs";
/// Where the program is used as a person does.
const ALONE: &str = "tests/it/alone.rs";
/// Where what a worker left is taken.
const COLLECT: &str = "orchestrator/src/collect/tests.rs";
/// What a policy may ask for.
const POLICY: &str = "orchestrator/src/policy/resolve.rs";

/// Number, file, words in it.
const ESCAPES: &[(u32, &str, &str)] = &[
    (1, ATTACKS, "\"1 pointer file\""),
    (1, GIT, "fn escape_1_a_pointer_to_an_evil_git_folder"),
    (2, ATTACKS, "\"2 moved git folder\""),
    (2, GIT, "fn escape_2_to_5"),
    (3, ATTACKS, "\"3 config\""),
    (4, ATTACKS, "\"4 hooks\""),
    (5, ATTACKS, "\"5 linked worktrees\""),
    (6, ATTACKS, "\"6 refs\""),
    (6, GIT, "fn escape_6_and_16"),
    (7, ATTACKS, "\"7 alternates\""),
    (7, GIT, "fn escape_7_and_15"),
    (8, GIT, "fn escape_8_a_repository_in_the_tree"),
    (8, COLLECT, "fn repositories_inside_are_refused"),
    (9, GIT, "fn escape_9_attributes_and_modules_are_content"),
    (9, COLLECT, "fn modules_that_say_more_than_where_to_look_are_refused"),
    (10, GIT, "fn escape_10_names_that_other_systems_read_as_git"),
    (10, COLLECT, "fn new_names_that_mislead_are_refused"),
    (10, COLLECT, "fn names_that_differ_in_case_only_are_refused"),
    (11, GIT, "fn escape_11_links_out_of_the_tree"),
    (12, GIT, "fn escape_12_odd_modes_are_made_ordinary"),
    (12, COLLECT, "fn limits_are_named"),
    (13, ATTACKS, "\"13 shared stash\""),
    (13, GIT, "fn escape_13_a_stash_stays_with_its_worker"),
    (14, ALONE, "fn escape_14_a_git_folder_that_a_command_makes"),
    (14, ALONE, "fn no_repository_below_the_folder_is_open_to_a_command"),
    (15, VIEWS, "\"15 a symlink in a granted path refuses the launch\""),
    (16, ATTACKS, "\"16 stale lock\""),
    (17, GIT, "fn escape_17"),
    (18, ATTACKS, "\"18 ssh key\""),
    (18, VIEWS, "\"18 a hidden file of the system is not readable\""),
    (19, ATTACKS, "\"19 around through proc\""),
    (20, ATTACKS, "\"20 write outside\""),
    (21, ATTACKS, "\"21 mode outside\""),
    (22, ATTACKS, "\"22 hard link of a secret\""),
    (23, ALONE, "fn escape_23_a_hard_link_of_the_checkout"),
    (24, VIEWS, "\"24 devices, fifos and sockets cannot be made in the worktree\""),
    (24, COLLECT, "fn pipes_sockets_and_their_like_are_left_out"),
    (25, ATTACKS, "\"25 file capability\""),
    (25, COLLECT, "fn only_the_executable_bit_of_a_mode_counts"),
    (26, ATTACKS, "\"26 what a job wrote runs, and stays inside\""),
    (27, LIVES, "\"27 nothing writes to the worktree after the last word\""),
    (28, COLLECT, "fn limits_are_named"),
    (28, "orchestrator/src/base/tests.rs", "fn a_tree_of_more_files_than_a_base_may_have"),
    (28, LIMITS, "\"28 many files break the limit\""),
    (28, LIMITS, "\"28 a sparse file breaks the limit\""),
    (28, LIMITS, "\"28 folders in folders break the limit\""),
    (29, ATTACKS, "\"29 lock of the host\""),
    (30, ATTACKS, "\"30 nothing is left in the host's /tmp and /dev/shm\""),
    (31, VIEWS, "\"31 /proc and /sys cannot be written\""),
    (31, LIMITS, "\"31 a job is the first to go when memory is short, and cannot change that\""),
    (32, ATTACKS, "\"32 ptrace\""),
    (33, ATTACKS, "\"33 environment of all\""),
    (34, ATTACKS, "\"34 kill\""),
    (35, ATTACKS, "\"35 priority\""),
    (36, LIVES, "\"36 daemons end with their job and are counted\""),
    (37, LIVES, "\"37 a grandchild that holds the output does not hold the job\""),
    (38, LIVES, "output is bounded, head and tail, and counted"),
    (38, LIMITS, "\"38 a job that forks without end breaks its limit\""),
    (38, LIMITS, "\"38 a job of too many threads breaks its limit\""),
    (38, LIMITS, "\"38 a job that eats memory breaks its limit\""),
    (38, LIMITS, "\"38 a flood of output breaks the limit\""),
    (38, LIMITS, "\"38 open files are bounded\""),
    (39, ATTACKS, "\"39 io_uring\""),
    (40, ATTACKS, "\"40 user namespace\""),
    (41, ATTACKS, "\"41 keyring\""),
    (42, ATTACKS, "\"42 shared memory of the host\""),
    (43, ATTACKS, "\"43 another architecture's calls kill\""),
    (44, ATTACKS, "\"44 typing into a terminal\""),
    (44, ALONE, "fn a_terminal_gets_no_control_sequence_of_a_command"),
    (44, "orchestrator/src/report/sanitize.rs", "#[test]"),
    (45, ATTACKS, "\"45 set-id bit\""),
    (46, ATTACKS, "\"46 inherited descriptors are closed\""),
    (47, ATTACKS, "\"47 unseen by the supervisor\""),
    (48, ATTACKS, "\"48 without Landlock nothing runs\""),
    (48, VIEWS, "\"a grant that does not exist refuses the launch\""),
    (49, ATTACKS, "\"49 host loopback\""),
    (49, DOORS, "\"49 through a door the proxy is reached, and no other service of the host\""),
    (50, ATTACKS, "\"50 MPTCP\""),
    (50, DOORS, "\"50 fast open reaches nobody\""),
    (51, DOORS, "\"51 no datagram leaves, so no name is asked for\""),
    (51, "orchestrator/src/egress/decide.rs", "fn the_rule_that_decides_is_named"),
    (52, "plans/src/egress.rs", "fn a_host_has_one_spelling_or_none"),
    (52, "orchestrator/src/egress/tests.rs", "fn what_programs_read_in_different_ways_reaches_nobody"),
    (53, "orchestrator/src/egress/decide.rs", "fn an_address_that_is_not_everybodys_has_to_be_named"),
    (54, "orchestrator/src/egress/tls_hello.rs", "fn the_server_name_has_to_be_the_tunnels_host"),
    (55, DOORS, "\"55 a door leads to one job's proxy\""),
    (55, "tests/it/egress.rs", "fn the_token_of_one_task_is_worth_nothing_to_another"),
    (55, "orchestrator/src/egress/socks.rs", "fn without_a_password_nothing_is_heard"),
    (56, ATTACKS, "\"56 a socket of the host\""),
    (57, ATTACKS, "\"57 abstract socket\""),
    (58, ATTACKS, "\"58 the coordinator's environment is not seen\""),
    (58, POLICY, "fn secrets_of_the_environment_stay_outside"),
    (59, ALONE, "fn escape_59_a_plan_does_not_loosen_what_its_reader_did_not_allow"),
    (59, ALONE, "fn a_persons_own_configuration_allows_for_its_repository_only"),
    (59, POLICY, "fn no_policy_gets_what_nobody_allowed"),
    (60, GUESTS, "\"60 a guest finds no path out of its folders\""),
];

/// The number of attempts.
const ESCAPES_MAX: u32 = 60;

#[test]
fn every_escape_is_tried_by_a_test_that_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the house");
    for number in 1..=ESCAPES_MAX {
        assert!(ESCAPES.iter().any(|(known, _, _)| *known == number), "nothing tries escape {number}");
    }
    for (number, file, words) in ESCAPES {
        let text = std::fs::read_to_string(top.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(words), "escape {number}: {words:?} is not in {file}");
    }
}
