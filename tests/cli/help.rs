//! What there is to know about the command from the command itself: help, version, completions, manual pages.

use crate::process::{run, stdout_of};

#[test]
fn help_and_version_go_to_stdout() {
    for args in [
        &["--help"][..],
        &["help"],
        &["help", "crawl", "eth"],
        &["crawl", "help", "eth"],
        &["key", "help"],
        &["bootnode", "-h"],
        &["--version"],
    ] {
        assert!(stdout_of(args).contains("kadwire"), "{args:?}");
    }
    assert_eq!(stdout_of(&["help", "crawl", "eth"]), stdout_of(&["crawl", "eth", "--help"]));
    assert_eq!(run(&["help", "nowhere"]).status.code(), Some(2));
}

#[test]
fn a_shell_can_complete_every_flag() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout_of(&["completions", shell]);
        assert!(script.contains("netrestrict") && script.contains("tendermint"), "{shell}: {script}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(stdout_of(&["man", folder.path().to_str().unwrap()]), "");
    for (page, flag) in [("kadwire", "verbosity"), ("kadwire-node", "rlpx"), ("kadwire-crawl-eth", "netrestrict")] {
        let text = std::fs::read_to_string(folder.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(flag), "{page}: {text}");
    }
    let output = run(&["man", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: /nonexistent: "), "{output:?}");
}
